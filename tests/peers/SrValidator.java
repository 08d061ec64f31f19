import com.pixelmed.validate.DicomSRValidator;

/** PixelMed's DicomSRValidator over many files in one process: its stylesheets are compiled once. */
public class SrValidator {
    public static void main(String[] files) throws Exception {
        DicomSRValidator validator = new DicomSRValidator();
        for (String file : files) {
            System.out.println("FILE " + file);
            System.out.println(validator.validate(file));
        }
    }
}
