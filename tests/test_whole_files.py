"""Files are written whole, or not at all."""

from pathlib import Path

import pytest

from zoo.checkpoints import write_whole


def test_files_are_written_whole(tmp_path):
    path = tmp_path / "new" / "folder" / "file"
    for content in (b"one", b"", b"three" * 1000):
        write_whole(path, content)
        assert path.read_bytes() == content
    assert [child.name for child in path.parent.iterdir()] == ["file"]


@pytest.mark.parametrize("failing", ["write_bytes", "replace"])
def test_a_failed_write_leaves_the_old_file_alone(tmp_path, monkeypatch, failing):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(self, content):
        if failing == "write_bytes":
            with self.open("wb") as file:
                file.write(content[:2])
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, failing, fail)
    with pytest.raises(OSError, match="no space left"):
        write_whole(path, b"new content")
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert [child.name for child in tmp_path.iterdir()] == ["file"]
