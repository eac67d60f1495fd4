// The gallery: adversarial images of one attack on one variant, or on all variants.

function triple(image) {
  const picture = (name, alternative) =>
    make("img", { src: `data:image/png;base64,${image[name]}`, alt: alternative, width: 96, height: 96 });
  const classes = `${image.label} → ${image.prediction}`;
  const distance = Number(image.distance.toPrecision(3));
  return make("figure", { class: "triple" },
    make("div", {}, picture("original", `sample ${image.index}, ${image.label}`),
      picture("adversarial", `classified as ${image.prediction}`), picture("difference", "difference of the two images")),
    make("figcaption", {}, make("strong", {}, classes), ` ${image.norm} ${distance}, sample ${image.index}`));
}

// Number of entries up to which all are printed; of more, only the selected ones are.
const MOST_PRINTED = 60;
// Number of images per entry where all variants are shown.
const FEW_IMAGES = 3;

function startGallery() {
  const form = find("#gallery-controls");
  if (!form) return;
  const names = (key) => [...new Set(DATA.gallery.map((entry) => entry[key]))];
  const variant = select([["", "all"], ...names("variant").map((name) => [name, name])], "");
  const attack = select(names("attack").map((name) => [name, name]), DATA.gallery[0].attack);
  form.append(withLabel("variant", variant), withLabel("attack", attack));
  const isSelected = (entry) => entry.attack === attack.value && (!variant.value || entry.variant === variant.value);
  const draw = (entries = DATA.gallery.filter(isSelected)) => {
    const sections = entries.map((entry) => make("section", {},
      make("h3", {}, `${entry.variant}, ${entry.attack}, seed ${entry.seed}`),
      make("div", { class: "triples" },
        ...(variant.value ? entry.images : entry.images.slice(0, FEW_IMAGES)).map(triple))));
    const empty = make("p", {}, "No images of this attack on this variant were saved.");
    find("#gallery-images").replaceChildren(...(sections.length ? sections : [empty]));
  };
  form.addEventListener("input", () => draw());
  if (DATA.gallery.length <= MOST_PRINTED) {
    window.addEventListener("beforeprint", () => draw(DATA.gallery));
    window.addEventListener("afterprint", () => draw());
  }
  form.addEventListener("submit", (event) => event.preventDefault());
  draw();
}
