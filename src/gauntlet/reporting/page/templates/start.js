document.documentElement.classList.add("scripted");
for (const element of all(".needs-script")) element.hidden = false;
for (const table of all("table.sortable")) sortable(table);
for (const table of all("table[data-kind]")) walkable(table);
filterable(find("#cells-table"), find("#cells-filter"));
if (DATA.curves.length) startCurves();
else find("#curves").hidden = true;
startGallery();

// Paper shows everything: what is folded is unfolded for as long as it is printed.
let folded = [];
window.addEventListener("beforeprint", () => {
  folded = all("main details:not([open])");
  for (const details of folded) details.open = true;
  for (const image of all("img[loading=lazy]")) image.loading = "eager";
});
window.addEventListener("afterprint", () => { for (const details of folded) details.open = false; });
