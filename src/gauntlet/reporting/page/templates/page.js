const DATA = JSON.parse(document.getElementById("data").textContent);

const find = (selector, root = document) => root.querySelector(selector);
const all = (selector, root = document) => [...root.querySelectorAll(selector)];

// Creates an element. Texts become text nodes, so that no name is ever read as markup.
function make(tag, attributes = {}, ...children) {
  const element = tag.startsWith("svg:")
    ? document.createElementNS("http://www.w3.org/2000/svg", tag.slice(4))
    : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

function withLabel(text, control) {
  return make("label", { class: "field" }, make("span", {}, text), control);
}

function select(options, selected) {
  const control = make("select");
  for (const [value, text] of options) control.append(make("option", { value, selected: value === selected }, text));
  return control;
}

// An end of an interval in percent. A tie is rounded to the even digit, as in the tables: 6.25 is 6.2, where toFixed
// alone gives 6.3. Zero has no sign.
function percent(share) {
  const value = 100 * share;
  const text = (Math.abs(value % 1) === 0.25 ? value - 0.05 * Math.sign(value) : value).toFixed(1);
  return text === "-0.0" ? "0.0" : text;
}

// An accuracy in percent. As in the tables, only 0 and 1 are printed as none and all.
function accuracyText(share) {
  let text = percent(share);
  const isExact = () => ![0, 100].includes(Number(text)) || Math.abs(100 * share - Number(text)) < 1e-9;
  for (let digits = 2; !isExact(); digits += 1) text = (100 * share).toFixed(digits);
  return text;
}

// The attacks that count for the worst case of a variant in a norm.
function attacksOn(variant, norm) {
  return DATA.attacks.filter((attack) => attack.norm === norm && attack.counts && !attack.without.includes(variant));
}
