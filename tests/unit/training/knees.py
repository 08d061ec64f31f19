"""A site's folder of phantom knees: pictures, or DICOM by SOP Instance UID."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from dicom_node.demo.phantom_studies import radiograph_study
from pipelines.knee_kl_ensemble.phantoms import phantom_crop
from pipelines.phantoms.knee import knee_radiograph

SPLITS = ("train", "train", "val", "test")


def pictures(folder: Path, number: int = 20) -> Path:
    """Crops with grades in turn, a quarter of them for the test; two knees a patient."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = ["split,kl,file,patient,side"]
    for n in range(number):
        grade, side = n % 5, "RL"[n % 2]
        made = knee_radiograph(n, grade, side, spacing_mm=0.8)
        Image.fromarray(phantom_crop(made, made.joints[0], 64)).save(folder / f"{n}.png")
        rows.append(f"{SPLITS[n * 4 // number]},{grade},{n}.png,{n // 2},{side}")
    (folder / "labels.csv").write_text("\n".join(rows), encoding="utf-8")
    return folder


def dicom(folder: Path) -> Path:
    """Full-frame radiographs: one right knee, then both knees in one film."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = ["sop_instance_uid,kl,side"]
    for n, (grades, side) in enumerate((((4, None), "R"), ((0, 3), "R"))):
        made = knee_radiograph(40 + n, grades[0], side, left_grade=grades[1], spacing_mm=0.4)
        (image,) = radiograph_study(
            made.image, 0.4, key=f"SITE-{n}", body_part="KNEE", description="knee"
        )
        image.save_as(folder / f"{n}.bin", enforce_file_format=True)
        rows.append(f"{image.SOPInstanceUID},{grades[0]},R")
        if grades[1] is not None:
            rows.append(f"{image.SOPInstanceUID},{grades[1]}.0,L")
    (folder / "labels.csv").write_text("\n".join(rows), encoding="utf-8")
    return folder
