// Files that are dropped on the form go into its file field; without this script they are chosen.
"use strict";
const form = document.getElementById("drop");
if (form) {
  const area = form.querySelector(".drop");
  const field = form.querySelector("input[type=file]");
  for (const kind of ["dragenter", "dragover"]) {
    area.addEventListener(kind, (event) => { event.preventDefault(); area.classList.add("over"); });
  }
  for (const kind of ["dragleave", "drop"]) {
    area.addEventListener(kind, () => area.classList.remove("over"));
  }
  area.addEventListener("drop", (event) => {
    event.preventDefault();
    if (event.dataTransfer.files.length) field.files = event.dataTransfer.files;
  });
}
