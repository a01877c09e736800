"use strict";
(() => {
  const { pictures, sections } = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const number = (value) => String(Number(value.toPrecision(4)));
  const named = (defect, probability) => `${defect} ${Math.round(probability * 100)} %`;
  const BINS = 48;
  const state = { section: 0, threshold: 0, show: "all", text: "", sort: "high", open: null };
  let cards = []; // of the section, by number of the image
  let order = []; // numbers of the images that are shown

  function make(tag, className, text) {
    const element = document.createElement(tag);
    if (className) element.className = className;
    if (text !== undefined) element.textContent = text;
    return element;
  }
  function picture(className, alt) {
    const image = make("img", className);
    image.alt = alt;
    image.decoding = "async";
    return image;
  }
  function svg(tag, attributes, parent) {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    parent.append(element);
    return element;
  }
  const section = () => sections[state.section];
  const isBad = (image) => image.score > state.threshold;

  // Pictures are decoded where they are looked at and dropped where they are not.
  const watcher = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      const image = section().images[target.dataset.index];
      if (!image) continue;
      const [original, heat] = target.querySelectorAll("img");
      if (isIntersecting) {
        original.src = pictures[image.name];
        heat.src = image.heat;
      } else {
        original.removeAttribute("src");
        heat.removeAttribute("src");
      }
    }
  }, { rootMargin: "600px 0px" });

  function buildCards() {
    watcher.disconnect();
    cards = section().images.map((image, index) => {
      const card = make("button", "card");
      card.type = "button";
      card.dataset.index = index;
      card.title = image.name;
      const frame = make("span", "frame");
      frame.append(picture("original", image.name), picture("heat", ""));
      const caption = make("span", "caption");
      const name = make("span", "name");
      name.append(make("bdi", "", image.name));
      caption.append(name, make("span", "score", number(image.score)));
      card.append(frame, caption);
      card.addEventListener("click", () => open(index));
      return card;
    });
  }

  function arrange() {
    const { images } = section();
    const wanted = state.text.trim().toLowerCase();
    order = images.map((_, index) => index).filter((index) => {
      const image = images[index];
      if (state.show === "anomalous" && !isBad(image)) return false;
      if (state.show === "normal" && isBad(image)) return false;
      return !wanted || image.name.toLowerCase().includes(wanted)
        || image.regions.some((region) => (region.defect || "").toLowerCase().includes(wanted));
    });
    const by = {
      high: (a, b) => images[b].score - images[a].score,
      low: (a, b) => images[a].score - images[b].score,
      near: (a, b) => Math.abs(images[a].score - state.threshold) - Math.abs(images[b].score - state.threshold),
      name: (a, b) => images[a].name.localeCompare(images[b].name, undefined, { numeric: true }),
    };
    order.sort(by[state.sort]);
    const grid = $("grid");
    const shown = order.map((index) => cards[index]);
    // Moving nodes that are in place already would be slow with thousands of them.
    if (shown.length !== grid.children.length || shown.some((card, i) => card !== grid.children[i])) {
      watcher.disconnect();
      grid.replaceChildren(...shown);
      for (const card of shown) watcher.observe(card);
    }
    $("nothing").hidden = order.length > 0;
  }

  // ---- the threshold, its histogram and its counts

  function range() {
    const scores = section().images.map((image) => image.score).concat(section().training, section().threshold);
    const low = Math.min(...scores), high = Math.max(...scores);
    const margin = (high - low || Math.abs(high) || 1) * 0.02;
    return [low - margin, high + margin];
  }
  function drawHistogram() {
    const box = $("histogram"), [low, high] = range(), width = 480 / BINS;
    const counts = (scores) => {
      const found = new Array(BINS).fill(0);
      for (const score of scores) {
        found[Math.min(BINS - 1, Math.floor((score - low) / (high - low) * BINS))] += 1;
      }
      return found;
    };
    const own = counts(section().images.map((image) => image.score));
    const training = counts(section().training);
    const highest = Math.max(1, ...own), usual = Math.max(1, ...training);
    box.replaceChildren();
    own.forEach((count, bin) => {
      const height = 72 * count / highest;
      const bar = svg("rect", { x: bin * width + 0.5, width: width - 1, y: 72 - height, height }, box);
      bar.dataset.middle = low + (bin + 0.5) / BINS * (high - low);
      svg("title", {}, bar).textContent = `${count} image${count === 1 ? "" : "s"}`;
    });
    if (section().training.length) {
      const path = training.map((count, bin) => (count ? `M${bin * width} 72V${72 - 60 * count / usual}h${width}V72` : ""));
      const line = svg("path", { d: path.join("") }, box);
      svg("title", {}, line).textContent = `${section().training.length} normal training images`;
    }
    svg("line", { y1: -4, y2: 76, id: "threshold-line" }, box);
    const slider = $("threshold");
    slider.min = low; slider.max = high; slider.step = "any";
  }
  function setThreshold(value) {
    if (!Number.isFinite(value)) return;
    state.threshold = value;
    const { images, threshold } = section(), [low, high] = range();
    let bad = 0;
    images.forEach((image, index) => {
      const flagged = isBad(image);
      bad += flagged;
      cards[index].classList.toggle("bad", flagged);
      cards[index].querySelector(".score").classList.toggle("bad", flagged);
    });
    const x = Math.max(0, Math.min(480, 480 * (value - low) / (high - low)));
    $("threshold-line").setAttribute("x1", x);
    $("threshold-line").setAttribute("x2", x);
    for (const bar of all("#histogram rect")) bar.classList.toggle("bad", Number(bar.dataset.middle) > value);
    $("threshold").value = value;
    if (document.activeElement !== $("threshold-value")) $("threshold-value").value = number(value);
    $("reset").hidden = value === threshold;
    $("own-threshold").textContent = number(threshold);
    const counts = $("counts");
    counts.replaceChildren(make("b", "bad", bad), " anomalous · ", make("b", "good", images.length - bad), " normal");
    $("summary").textContent = `${images.length} image${images.length === 1 ? "" : "s"}, ${bad} anomalous`;
    if (state.show !== "all" || state.sort === "near") arrange();
    if (state.open !== null) showVerdict();
  }

  // ---- one image

  function open(index) {
    state.open = index;
    const image = section().images[index];
    $("detail-name").textContent = image.name;
    const stage = $("stage"), frame = make("div", "frame");
    frame.style.setProperty("--aspect", image.width / image.height);
    const original = picture("original", image.name), heat = picture("heat", "");
    original.src = pictures[image.name];
    heat.src = image.heat;
    frame.append(original, heat);
    const boxes = svg("svg", { viewBox: `0 0 ${image.width} ${image.height}`, preserveAspectRatio: "none" }, frame);
    image.regions.forEach(({ box: [left, top, right, bottom], defect, probability }) => {
      svg("rect", { x: left, y: top, width: right - left, height: bottom - top, rx: 2, class: defect ? "named" : "" }, boxes);
      if (!defect) return;
      const size = Math.max(image.width, image.height) / 36;
      const place = { x: left, y: top > 1.5 * size ? top - 0.4 * size : bottom + 1.1 * size, "font-size": size };
      svg("text", place, boxes).textContent = named(defect, probability);
    });
    stage.replaceChildren(frame);
    showFacts(image);
    showVerdict();
    if (!$("detail").open) $("detail").showModal();
  }
  function showVerdict() {
    const image = section().images[state.open], flagged = isBad(image);
    const score = make("span", "score", number(image.score)), tag = make("span", "tag", flagged ? "anomalous" : "normal");
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
    if (image.percentile !== null) about.push(`above ${Math.round(image.percentile * 100)} % of the training images`);
    facts.append(make("p", "", about.join(" · ")));
    if (image.regions.length) {
      facts.append(make("h2", "", "Hot regions"));
      const table = make("table");
      image.regions.forEach((region, number_) => table.append(regionRow(region, number_)));
      facts.append(table);
    }
    if (image.neighbours.length) {
      facts.append(make("h2", "", "Hottest patches and the nearest normal ones"));
      for (const found of image.neighbours) facts.append(pair(found));
    }
  }
  function regionRow(region, index) {
    const row = make("tr"), [left, top, right, bottom] = region.box;
    row.dataset.region = index;
    row.tabIndex = 0;
    const what = region.defect ? named(region.defect, region.probability) : "region";
    row.append(make("th", "", what), make("td", "", `${right - left} × ${bottom - top} at ${left}, ${top}`), make("td", "", number(region.peak)));
    const mark = (on) => () => all("#stage rect")[index].classList.toggle("on", on);
    for (const event of ["mouseenter", "focus"]) row.addEventListener(event, mark(true));
    for (const event of ["mouseleave", "blur"]) row.addEventListener(event, mark(false));
    return row;
  }
  function pair(found) {
    const element = make("div", "pair");
    const side = (source, caption) => {
      const figure = make("figure");
      const shown = source ? picture("", caption) : make("div", "missing", "not on the machine that wrote this");
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
    const card = cards[state.open];
    state.open = null;
    if (card && card.isConnected) { card.focus({ preventScroll: true }); card.scrollIntoView({ block: "nearest" }); }
  }

  // ---- choices

  function choose(attribute, value) {
    for (const button of all(`button[data-${attribute}]`)) button.setAttribute("aria-checked", button.dataset[attribute] === value);
  }
  function setView(view) { document.body.dataset.view = view; choose("view", view); }
  function setShow(show) { state.show = show; choose("show", show); arrange(); }
  function setOpacity(percent) {
    $("opacity").value = percent;
    document.documentElement.style.setProperty("--opacity", $("opacity").value / 100);
  }
  function setSection(index) {
    state.section = index;
    for (const tab of all("[role=tab]")) tab.setAttribute("aria-selected", Number(tab.dataset.section) === index);
    buildCards();
    drawHistogram();
    setThreshold(section().threshold);
    arrange();
  }
  function moveFocus(by) {
    const place = order.indexOf(Number(document.activeElement?.dataset?.index ?? -1));
    const card = cards[order[Math.max(0, Math.min(order.length - 1, place + by))]];
    if (card) { card.focus(); card.scrollIntoView({ block: "nearest" }); }
  }

  for (const button of all("button[data-view]")) button.addEventListener("click", () => setView(button.dataset.view));
  for (const button of all("button[data-show]")) button.addEventListener("click", () => setShow(button.dataset.show));
  for (const tab of all("[role=tab]")) tab.addEventListener("click", () => setSection(Number(tab.dataset.section)));
  $("threshold").addEventListener("input", (event) => setThreshold(Number(event.target.value)));
  $("threshold-value").addEventListener("input", (event) => setThreshold(event.target.value === "" ? NaN : Number(event.target.value)));
  $("reset").addEventListener("click", () => setThreshold(section().threshold));
  $("opacity").addEventListener("input", (event) => setOpacity(event.target.value));
  $("filter").addEventListener("input", (event) => { state.text = event.target.value; arrange(); });
  $("sort").addEventListener("change", (event) => { state.sort = event.target.value; arrange(); });
  $("previous").addEventListener("click", () => step(-1));
  $("next").addEventListener("click", () => step(1));
  $("close").addEventListener("click", () => $("detail").close());
  $("detail").addEventListener("close", closed);
  $("detail").addEventListener("click", (event) => { if (event.target === $("detail")) $("detail").close(); });
  let touch = null;
  $("stage").addEventListener("touchstart", (event) => { touch = event.touches.length === 1 ? event.touches[0] : null; }, { passive: true });
  $("stage").addEventListener("touchend", (event) => {
    const by = touch ? event.changedTouches[0].clientX - touch.clientX : 0;
    if (Math.abs(by) > 60) step(by < 0 ? 1 : -1);
  });
  $("theme").addEventListener("click", () => {
    const root = document.documentElement;
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
  });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.matches("input, select")) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    const [low, high] = range(), isOpen = state.open !== null;
    const move = (by) => (isOpen ? step(by) : moveFocus(by));
    const actions = {
      ArrowRight: () => move(1), j: () => move(1), ArrowLeft: () => move(-1), k: () => move(-1),
      1: () => setView("original"), 2: () => setView("overlay"), 3: () => setView("map"),
      "+": () => setOpacity(Number($("opacity").value) + 10), "-": () => setOpacity(Number($("opacity").value) - 10),
      "]": () => setThreshold(state.threshold + (high - low) / 100), "[": () => setThreshold(state.threshold - (high - low) / 100),
      "/": () => { if (!isOpen) $("filter").focus(); },
    };
    const action = actions[event.key];
    if (action) { event.preventDefault(); action(); }
  });

  setView("overlay");
  setOpacity(70);
  choose("show", "all");
  setSection(0);
})();
