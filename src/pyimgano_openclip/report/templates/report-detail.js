// The detail view: one image, large, with its regions and neighbours.

function open(index) {
  state.open = index;
  const image = section().images[index];
  $("detail-name").textContent = image.name;
  const stage = $("stage"), frame = make("div", "frame");
  setZoom(1);
  if (image.score === null) {
    stage.classList.remove("oblong");
    stage.replaceChildren(make("p", "missing", image.error));
    showUnread(image);
    return;
  }
  frame.style.setProperty("--aspect", image.width / image.height);
  const original = picture("original", image.name), heat = make("canvas", "heat");
  original.src = pictures[image.name];
  frame.append(original, heat);
  const boxes = svg("svg", { viewBox: `0 0 ${image.width} ${image.height}`, preserveAspectRatio: "none" }, frame);
  frame.append(contour(image, "none"));
  image.regions.forEach(({ box: [left, top, right, bottom], defect, probability }) => {
    svg("rect", { x: left, y: top, width: right - left, height: bottom - top, rx: 2, class: defect ? "named" : "" }, boxes);
    if (!defect) return;
    const size = Math.min(Math.max(image.width, image.height) / 36, Math.min(image.width, image.height) / 8);
    const place = { x: left, y: top > 1.5 * size ? top - 0.4 * size : bottom + 1.1 * size, "font-size": size };
    svg("text", place, boxes).textContent = named(defect, probability);
  });
  stage.replaceChildren(frame);
  load(stage, image);
  stage.classList.toggle("oblong", isOblong(image));
  showFacts(image);
  showVerdict();
  if (!$("detail").open) $("detail").showModal();
  if (isOblong(image)) boxes.querySelector("rect")?.scrollIntoView({ block: "center", inline: "center" });
}
function showUnread(image) {
  $("facts").replaceChildren(make("div", "verdict"), make("p", "", "It could not be read, so it does not pass."), make("p", "", image.error));
  showVerdict();
  if (!$("detail").open) $("detail").showModal();
}
// What is under the pointer, or in the middle of the stage, stays where it is.
function setZoom(zoom, at) {
  const stage = $("stage"), frame = stage.querySelector(".frame"), box = stage.getBoundingClientRect();
  const [x, y] = at ? [at.clientX, at.clientY] : [box.left + box.width / 2, box.top + box.height / 2];
  const before = frame?.getBoundingClientRect();
  state.zoom = Math.max(1, Math.min(12, zoom));
  stage.style.setProperty("--zoom", state.zoom);
  stage.classList.toggle("zoomed", state.zoom > 1);
  if (!before?.width) return;
  const after = frame.getBoundingClientRect(), grown = after.width / before.width;
  stage.scrollBy(after.left + (x - before.left) * grown - x, after.top + (y - before.top) * grown - y);
}
function showVerdict() {
  const image = section().images[state.open], flagged = isBad(image);
  choose("mark", verdictOf(image));
  const score = make("span", "score", image.score === null ? "unreadable" : number(image.score)), tag = make("span", "tag", flagged ? "anomalous" : "normal");
  score.classList.toggle("bad", flagged);
  tag.classList.toggle("bad", flagged);
  all(".verdict").forEach((place) => place.replaceChildren(score, tag));
  const place = order.indexOf(state.open);
  $("detail-place").textContent = place < 0 ? "" : `${place + 1} / ${order.length}`;
}
function showFacts(image) {
  const facts = $("facts");
  facts.scrollTop = 0;
  facts.replaceChildren(make("div", "verdict"));
  const about = [`${image.width} × ${image.height} pixels`];
  if (image.percentile !== null) about.push(`above ${percent(image.percentile)} of the ${known()}`);
  if (image.unlike) about.push(image.unlike);
  facts.append(make("p", "", about.join(" · ")));
  if (image.regions.length) {
    facts.append(make("h2", "", image.regions.some((region) => region.area) ? `Regions above ${number(section().region)}` : "Hottest place"));
    const table = make("table");
    image.regions.forEach((region, number_) => table.append(regionRow(region, number_)));
    facts.append(table);
    if (section().named && !image.regions.some((region) => region.defect)) facts.append(make("p", "", "No named defect leads clearly."));
  }
  if (image.neighbours.length) {
    facts.append(make("h2", "", `Hottest patches and the nearest ${section().pool ? "of other images" : "normal ones"}`));
    for (const found of image.neighbours) facts.append(pair(found));
  }
}
function regionRow(region, index) {
  const row = make("tr"), [left, top, right, bottom] = region.box;
  row.dataset.region = index;
  row.tabIndex = 0;
  const what = region.defect ? named(region.defect, region.probability) : "region";
  row.append(make("th", "", what), make("td", "", `${right - left} × ${bottom - top} at ${left}, ${top}`), make("td", "", number(region.peak)));
  const mark = (on) => () => {
    const box = all("#stage rect")[index];
    box.classList.toggle("on", on);
    if (on) box.scrollIntoView({ block: "nearest", inline: "nearest" });
  };
  for (const event of ["mouseenter", "focus"]) row.addEventListener(event, mark(true));
  for (const event of ["mouseleave", "blur"]) row.addEventListener(event, mark(false));
  return row;
}
function pair(found) {
  const element = make("div", "pair");
  const side = (source, caption) => {
    const figure = make("figure");
    const shown = source ? picture("", caption) : make("div", "missing", "image not available");
    if (source) shown.src = source;
    figure.append(shown, make("figcaption", "", caption));
    return figure;
  };
  element.append(side(found.patch, `distance ${number(found.distance)}`), side(found.normal, found.source));
  return element;
}
function step(by) {
  if (!order.length) return;
  const place = order.indexOf(state.open);
  open(order[Math.max(0, Math.min(order.length - 1, place + by))]);
}
function closed() {
  const index = state.open;
  state.open = null;
  goTo(index);
}
