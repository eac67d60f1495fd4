// Adversarial images of one variant under one attack, or of all variants.

function triple(one) {
  const image = (name, alternative) =>
    make("img", { src: `data:image/png;base64,${one[name]}`, alt: alternative, width: 96, height: 96 });
  const told = `${one.label} → ${one.prediction}`;
  return make("figure", { class: "triple" },
    make("div", {}, image("original", `sample ${one.index}, ${one.label}`),
      image("adversarial", `taken for ${one.prediction}`), image("difference", "what was changed")),
    make("figcaption", {}, make("strong", {}, told), ` ${one.norm} ${Number(one.distance.toPrecision(3))}, sample ${one.index}`));
}

/** How many blocks are printed at the most, whichever is chosen; with more, those that are. */
const MOST_PRINTED = 60;

function startGallery() {
  const form = find("#gallery-controls");
  if (!form) return;
  const names = (key) => [...new Set(DATA.gallery.map((one) => one[key]))];
  const variant = select([["", "all"], ...names("variant").map((name) => [name, name])], "");
  const attack = select(names("attack").map((name) => [name, name]), DATA.gallery[0].attack);
  form.append(labelled("variant", variant), labelled("attack", attack));
  const isChosen = (one) => one.attack === attack.value && (!variant.value || one.variant === variant.value);
  const draw = (shown = DATA.gallery.filter(isChosen)) => {
    const blocks = shown.map((one) => make("section", {},
      make("h3", {}, `${one.variant}, ${one.attack}, seed ${one.seed}`),
      // Where all variants stand below each other, a few of each will do.
      make("div", { class: "triples" }, ...(variant.value ? one.images : one.images.slice(0, 3)).map(triple))));
    find("#gallery-images").replaceChildren(...(blocks.length ? blocks : [make("p", {}, "No image was kept of this attack on this variant.")]));
  };
  form.addEventListener("input", () => draw());
  if (DATA.gallery.length <= MOST_PRINTED) {
    window.addEventListener("beforeprint", () => draw(DATA.gallery));
    window.addEventListener("afterprint", () => draw());
  }
  form.addEventListener("submit", (event) => event.preventDefault());
  draw();
}
