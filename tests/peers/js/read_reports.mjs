// Reads structured reports as OHIF's libraries do and prints what they found, as JSON by file.
//
// dcmjs reads the file, and the MeasurementReport adapter of @cornerstonejs/adapters walks through
// it. By itself that adapter knows only groups with coordinates, which it turns into drawing tools
// ("tools" below); `getToolClass` is its way in for all others.
import { readFileSync } from 'node:fs';
import { register } from 'node:module';

register('./resolve.mjs', import.meta.url);
globalThis.window = globalThis.self = globalThis; // the adapters' libraries expect a browser
console.log = console.warn = () => {}; // they print every group

const { default: dcmjs } = await import('dcmjs');
const { adaptersSR } = await import('@cornerstonejs/adapters');
const { MeasurementReport } = adaptersSR.Cornerstone3D;
const { DicomMessage, DicomMetaDictionary } = dcmjs.data;

const list = sequence => (sequence === undefined ? [] : [].concat(sequence));
const first = sequence => list(sequence)[0];
const code = sequence => {
  const item = first(sequence);
  const value = item.CodeValue ?? item.LongCodeValue;
  return [String(value), item.CodingSchemeDesignator, item.CodeMeaning];
};
const modifiers = item =>
  list(item.ContentSequence)
    .filter(child => child.RelationshipType === 'HAS CONCEPT MOD' && child.ValueType === 'CODE')
    .map(child => ({ name: code(child.ConceptNameCodeSequence), value: code(child.ConceptCodeSequence) }));

class Group {
  static toolType = 'group';

  static getMeasurementData(group, images, metadata, trackingIdentifier) {
    const items = list(group.ContentSequence);
    const ofType = kind => items.filter(item => item.ValueType === kind);
    return {
      tracking: trackingIdentifier,
      codes: ofType('CODE').map(item => ({
        name: code(item.ConceptNameCodeSequence),
        value: code(item.ConceptCodeSequence),
        modifiers: modifiers(item),
      })),
      numbers: ofType('NUM').map(item => {
        const measured = first(item.MeasuredValueSequence);
        return {
          name: code(item.ConceptNameCodeSequence),
          value: Number(measured.NumericValue),
          unit: code(measured.MeasurementUnitsCodeSequence),
          modifiers: modifiers(item),
        };
      }),
      texts: ofType('TEXT').map(item => ({
        name: code(item.ConceptNameCodeSequence),
        value: item.TextValue,
      })),
      images: ofType('IMAGE').map(item => first(item.ReferencedSOPSequence).ReferencedSOPInstanceUID),
    };
  }
}

function read(file) {
  const bytes = readFileSync(file);
  const buffer = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
  // or it refuses every file with more than one character set (ISO 2022)
  const { dict } = DicomMessage.readFile(buffer, { ignoreErrors: true });
  const dataset = DicomMetaDictionary.naturalizeDataset(dict);
  const words = list(dataset.ContentSequence).filter(item => item.ValueType === 'TEXT');
  const hooks = { getToolClass: () => Group };
  return {
    patient: first(dataset.PatientName),
    words: words.map(item => item.TextValue),
    groups: MeasurementReport.generateToolState(dataset, {}, {}, hooks).group ?? [],
    tools: Object.keys(MeasurementReport.generateToolState(dataset, {}, {})),
  };
}

const answer = Object.fromEntries(process.argv.slice(2).map(file => [file, read(file)]));
process.stdout.write(JSON.stringify(answer));
