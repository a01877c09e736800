"""``score --ray``: the same files as one process writes, from a folder, cloud storage, Parquet."""

import json
import sys
from pathlib import Path

import pytest
from PIL import Image

from pyimgano_openclip import VisionOpenCLIPMutual, VisionOpenCLIPPatchKNN
from pyimgano_openclip.cli import main
from pyimgano_openclip.samples import make_sample

from helpers.clusters import finish, kill_the_reader, needs_ray, running
from helpers.runs import lines_of

pytestmark = pytest.mark.slow
BROKEN = "08-broken.png"
UNREADABLE = 3  # exit code


def tile(seed):
    """A generated tile; every fourth has a hole."""
    defect = "hole" if seed % 4 == 0 else None
    return make_sample("tile", seed=seed, size=(72, 96), defect=defect).image


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    """A saved patch-kNN detector of tiles."""
    found = VisionOpenCLIPPatchKNN(openclip_model_name="bundled", jitter=0, contamination=0.05)
    found.fit([tile(seed) for seed in range(1, 16, 2)])
    return found.save_checkpoint(tmp_path_factory.mktemp("tiles") / "tile.safetensors")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """12 tiles and a file that is no image."""
    found = tmp_path_factory.mktemp("shots") / "images"
    found.mkdir()
    for seed in range(12):
        Image.fromarray(tile(100 + seed)).save(found / f"{seed:02}.png")
    (found / BROKEN).write_bytes(b"no image")
    return found


@pytest.fixture(scope="module")
def here(folder, detector, tmp_path_factory):
    """The results of one process."""
    out = tmp_path_factory.mktemp("here") / "out"
    assert main(["score", str(folder), "--detector", str(detector), "--out", str(out)]) == 3
    return out


def content(out):
    """The files of a results folder without the report, which has a date."""
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in out.rglob("*")
        if path.is_file() and path.name != "report.html"
    }


@needs_ray
@pytest.mark.skipif(sys.platform != "linux", reason="needs leases of files, and /proc")
def test_a_killed_worker_changes_no_file(folder, detector, here, tmp_path):
    out = tmp_path / "out"
    command = ("score", folder, "--detector", detector, "--out", out, "--ray", "--workers", 2)
    with running(tmp_path, "-m", "pyimgano_openclip", *command) as process:
        kill_the_reader(folder / "06.png", process, tmp_path)
        code, printed = finish(process)
    assert code == UNREADABLE, printed
    assert (out / "report.html").is_file()
    found, expected = content(out), content(here)
    assert found.keys() == expected.keys()
    assert found["scores.csv"] == expected["scores.csv"]
    assert found == expected


def rows_of(out):
    """Lines of the journal without what tells where the image is."""
    return [
        {key: value for key, value in line.items() if key not in ("image", "file", "error")}
        for line in lines_of(out)
    ]


def score_without_a_cluster(monkeypatch, *arguments):
    """The command with the workers of a cluster in this process, one batch after the other."""
    from contextlib import contextmanager

    import pyarrow as pa

    from pyimgano_openclip.cli import cluster, score

    class Here(cluster.Cluster):
        def _each(self, rows, worker, arguments):
            work = worker(**arguments, max_pixels=self.max_pixels)
            for start in range(0, len(rows), 5):
                yield from work(pa.Table.from_pylist(rows[start : start + 5])).to_pylist()

    @contextmanager
    def joined(options):
        yield Here(1, 0, {**cluster.located(options), "device": "cpu"}, options.max_pixels)

    monkeypatch.setattr(score, "joined", joined)
    return main(["score", *map(str, arguments), "--ray"])


def test_a_uri_is_read_as_its_folder(folder, detector, here, tmp_path, monkeypatch):
    pytest.importorskip("pyarrow")
    arguments = (folder.as_uri(), "--detector", detector, "--out", tmp_path / "out")
    assert score_without_a_cluster(monkeypatch, *arguments) == UNREADABLE
    found = content(tmp_path / "out")
    assert found.keys() == content(here).keys()
    assert found["scores.csv"] == content(here)["scores.csv"].replace(
        str(folder / BROKEN).encode(), (folder / BROKEN).as_uri().encode()
    )
    assert rows_of(tmp_path / "out") == rows_of(here)
    report = (tmp_path / "out/report.html").read_text(encoding="utf-8")
    assert folder.as_uri() in report


def test_a_second_run_scores_nothing_twice_wherever_the_images_lie(
    folder, detector, tmp_path, monkeypatch, capsys
):
    pytest.importorskip("pyarrow")
    some = [(folder / name).as_uri() for name in ("01.png", "04.png")]
    arguments = (*some, "--detector", detector, "--out", tmp_path / "out", "--json")
    for kept in (0, 2):
        assert score_without_a_cluster(monkeypatch, *arguments) == 0
        facts = json.loads(capsys.readouterr().out)
        assert (facts["scored"], facts["kept"]) == (2 - kept, kept)


@pytest.mark.parametrize("kind", ["bytes", "struct", "paths"])
def test_rows_of_parquet_are_images_in_their_order(
    kind, folder, detector, here, tmp_path, monkeypatch
):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    paths = sorted(folder.iterdir())
    values = {
        "bytes": [path.read_bytes() for path in paths],
        "struct": [{"bytes": path.read_bytes(), "path": path.name} for path in paths],
        "paths": [str(path) for path in paths],
    }
    table = pa.table({"part": range(len(paths)), "image": values[kind]})
    parquet.write_table(table, tmp_path / "parts.parquet", row_group_size=5)
    arguments = (tmp_path / "parts.parquet", "--detector", detector, "--out", tmp_path / "out")
    assert score_without_a_cluster(monkeypatch, *arguments, "--maps", "none") == UNREADABLE
    names = [line["image"] for line in lines_of(tmp_path / "out")]
    assert names == [f"parts.parquet/{row:06}" for row in range(len(paths))]
    assert rows_of(tmp_path / "out") == rows_of(here)


def test_workers_know_where_to_look(folder, tmp_path, monkeypatch):
    pytest.importorskip("pyarrow")
    found = VisionOpenCLIPPatchKNN(
        openclip_model_name="bundled", jitter=0, roi=[0.0, 0.0, 1.0, 0.5]
    )
    found.fit([tile(seed) for seed in range(1, 10, 2)])
    saved = found.save_checkpoint(tmp_path / "upper.safetensors")
    arguments = (folder / "01.png", folder / "04.png", "--detector", saved, "--out")
    assert main(["score", *map(str, arguments), str(tmp_path / "here")]) == 0
    assert score_without_a_cluster(monkeypatch, *arguments, tmp_path / "there") == 0
    assert content(tmp_path / "there") == content(tmp_path / "here")


@pytest.mark.filterwarnings("always")
def test_what_the_images_warn_of_is_told_once(detector, tmp_path, monkeypatch, capsys):
    pytest.importorskip("pyarrow")
    frames = [Image.fromarray(tile(seed)) for seed in (1, 2)]
    frames[0].save(tmp_path / "two.tif", save_all=True, append_images=frames[1:])
    arguments = (tmp_path / "two.tif", "--detector", detector, "--out", tmp_path / "out")
    assert score_without_a_cluster(monkeypatch, *arguments) == 0
    assert capsys.readouterr().err.count("1 image has several pages") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("s3://bucket/parts", "--class-name", "screw"), "pass --ray to read from cloud storage"),
        ((".", "--ray"), "compared with each other on one machine"),
        ((".", "--class-name", "screw", "--workers", "2"), "--workers and --column need --ray"),
    ],
)
def test_what_needs_ray_and_what_it_cannot_do_is_told(arguments, message, tmp_path, capsys):
    assert main(["score", *arguments, "--out", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err


def test_evaluate_says_that_it_runs_on_one_machine(tmp_path, capsys):
    command = ["evaluate", str(tmp_path), "--detector", "none.safetensors", "--ray"]
    assert main(command) == 2
    assert "evaluate runs on one machine" in capsys.readouterr().err


def test_a_detector_that_compares_all_images_is_not_sent_to_workers():
    from pyimgano_openclip.distributed import packed

    with pytest.raises(ValueError, match="on one machine"):
        packed(VisionOpenCLIPMutual(openclip_model_name="bundled"))
    with pytest.raises(ValueError, match=r"d\.onnx is an exported detector"):
        packed("d.onnx")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"part": [1]}, "column image is missing; .* there is none"),
        ({"image": [1], "scan": [b""], "text": ["a"]}, "column image holds int64; .* scan, text"),
    ],
)
def test_a_table_without_images_is_refused(columns, message, tmp_path):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    from pyimgano_openclip.cli.remote_images import search_remote

    parquet.write_table(pa.table(columns), tmp_path / "parts.parquet")
    with pytest.raises(ValueError, match=message):
        search_remote([tmp_path / "parts.parquet"])


def test_names_of_remote_images_are_relative_to_their_common_folder(tmp_path):
    pytest.importorskip("pyarrow")
    from pyimgano_openclip.cli.remote_images import search_remote

    for name in ("a b/1.png", "a b/.hidden/2.png", "c/3.PNG", "c/notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    found = search_remote([tmp_path.as_uri()])
    assert ([image.name for image in found.images], found.others) == (["a b/1.png", "c/3.PNG"], 1)
    assert all(Path.exists(tmp_path / image.name) for image in found.images)
    both = search_remote([(tmp_path / name).as_uri() for name in ("c", "a b")])
    assert [image.name for image in both.images] == ["c/3.PNG", "a b/1.png"]
    with pytest.raises(ValueError, match="does not exist"):
        search_remote([(tmp_path / "nowhere").as_uri()])
