document.documentElement.classList.add("scripted");
for (const element of all(".needs-script")) element.hidden = false;
for (const table of all("table.sortable")) makeSortable(table);
for (const table of all("table[data-table]")) makeNavigable(table);
makeFilterable(find("#cells-table"), find("#cells-filter"));
startFactors();
if (DATA.curves.length) startCurves();
else find("#curves").hidden = true;
startGallery();

// Everything is printed: collapsed details are opened for as long as the page is printed.
let opened = [];
window.addEventListener("beforeprint", () => {
  opened = all("main details:not([open])");
  for (const details of opened) details.open = true;
  for (const image of all("img[loading=lazy]")) image.loading = "eager";
});
window.addEventListener("afterprint", () => { for (const details of opened) details.open = false; });
