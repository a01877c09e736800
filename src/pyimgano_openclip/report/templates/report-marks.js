// What the reader says about the labels, and the file that carries it to the command line.

const truthOf = (image) => truths[image.name];
const labelOf = (image) => (isBad(image) ? "anomalous" : "normal");
// "right", "wrong", or undefined: it follows the threshold, while what the image is does not.
const verdictOf = (image) => truthOf(image) && (truthOf(image) === labelOf(image) ? "right" : "wrong");

function setMark(mark) {
  if (state.open === null) return;
  const image = section().images[state.open], other = { normal: "anomalous", anomalous: "normal" };
  if (verdictOf(image) === mark) delete truths[image.name];
  else truths[image.name] = mark === "right" ? labelOf(image) : other[labelOf(image)];
  unsaved.add(section().folder);
  if (cards[state.open]) showMark(cards[state.open], image);
  showVerdict();
  if (state.show === "wrong") soon(arrange);
}
function showMark(card, image) {
  const verdict = verdictOf(image);
  if (verdict) card.dataset.verdict = verdict;
  else delete card.dataset.verdict;
}
function exported() {
  const { title, saved, digest, folder, images } = section();
  return {
    format: "pyimgano-openclip report", version: 1, title, detector: saved, digest, folder,
    threshold: state.threshold,
    images: images.map((image) => ({ image: image.name, score: image.score, label: labelOf(image), truth: truthOf(image) ?? null })),
  };
}
function saveMarks() {
  const link = make("a"), text = JSON.stringify(exported(), null, 1);
  link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  link.download = "report-marks.json";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  unsaved.delete(section().folder);
}
