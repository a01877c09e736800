"""The example that scores a Ray dataset: a real cluster on this machine, with two workers."""

import io

import numpy as np
import pytest
from PIL import Image

from pyimgano_openclip import VisionOpenCLIPPromptScore
from pyimgano_openclip.samples import make_sample

from helpers.clusters import finish, needs_ray, running
from helpers.examples import EXAMPLES

pytestmark = [pytest.mark.slow, needs_ray]


def test_a_table_of_image_files_is_scored_as_in_one_process(tmp_path):
    """A zero-shot detector, upright images first: batches alone would choose other proportions."""
    import pyarrow as pa
    from pyarrow import parquet

    images = [
        make_sample("tile", seed=seed, size=(96, 72) if seed < 4 else (72, 96)).image
        for seed in range(11)
    ]
    files = []
    for pixels in images:
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "png")
        files.append(file.getvalue())
    table = pa.table({"part": range(12), "image": [*files, b"no image"]})
    parquet.write_table(table, tmp_path / "parts.parquet", row_group_size=4)
    detector = VisionOpenCLIPPromptScore(class_name="tile", openclip_model_name="bundled")
    saved = detector.choose_canvas(images).save_checkpoint(tmp_path / "tile.safetensors")
    arguments = (tmp_path / "parts.parquet", "--detector", saved, "--out", tmp_path / "scores")
    with running(tmp_path, EXAMPLES / "ray_batch.py", *arguments) as process:
        code, printed = finish(process)
    assert code == 0, printed

    found = parquet.read_table(tmp_path / "scores").sort_by("part")
    assert found.column_names == ["part", "score", "label", "percentile", "unlike", "error"]
    expected = detector.decision_function(images)
    assert np.allclose(found["score"].to_pylist()[:11], expected, rtol=0, atol=1e-6)
    assert found["label"].to_pylist() == [*detector.predict(images).tolist(), 1]
    assert found["score"][11].as_py() is None
    assert "file of 8 bytes cannot be opened as an image" in found["error"][11].as_py()


def test_a_missing_detector_is_told_in_one_line(tmp_path):
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.table({"image": ["a.png"]}), tmp_path / "parts.parquet")
    given = (tmp_path / "parts.parquet", "--detector", "none.safetensors", "--out", tmp_path / "o")
    with running(tmp_path, EXAMPLES / "ray_batch.py", *given) as process:
        code, printed = finish(process)
    assert code == 1
    assert printed.splitlines()[-1] == "[Errno 2] No such file or directory: 'none.safetensors'"
    assert "Traceback" not in printed
