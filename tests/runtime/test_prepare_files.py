"""What is looked at before a start: the API's certificate, the model's files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from aim_engine.errors import InputError, ModelAccessError
from aim_engine.runtime.prepare import check_certificate, check_model_folder, check_tokenizer


def test_a_certificate_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cert\.pem or .* cannot be read"):
        check_certificate(str(tmp_path / "cert.pem"), str(tmp_path / "key.pem"))


def test_what_is_no_certificate_is_said(tmp_path: Path) -> None:
    (tmp_path / "cert.pem").write_text("no certificate")
    with pytest.raises(InputError, match="no certificate with its key"):
        check_certificate(str(tmp_path / "cert.pem"), str(tmp_path / "cert.pem"))


@pytest.mark.parametrize("odd", ["cert.pem", "key.pem"])
def test_a_pipe_is_no_certificate_and_nobody_waits_for_it(tmp_path: Path, odd: str) -> None:
    for name in ("cert.pem", "key.pem"):
        (tmp_path / name).write_text("") if name != odd else os.mkfifo(tmp_path / name)
    with pytest.raises(InputError, match=rf"AIM_TLS_{odd[:-4].upper()}=\S*{odd} is not a regular file"):
        check_certificate(str(tmp_path / "cert.pem"), str(tmp_path / "key.pem"))


def test_a_pipe_among_the_model_s_files_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link.json").symlink_to(tmp_path / "config.json")
    (tmp_path / "nowhere.json").symlink_to(tmp_path / "gone")
    check_model_folder(tmp_path)
    os.mkfifo(tmp_path / "tokenizer.json")
    with pytest.raises(ModelAccessError, match=rf"{tmp_path}/tokenizer.json is not a regular file"):
        check_model_folder(tmp_path)


def test_a_model_folder_that_is_not_there_is_somebody_else_s_error(tmp_path: Path) -> None:
    check_model_folder(tmp_path / "nowhere")


def test_a_folder_without_a_tokenizer_is_not_served_unless_another_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelAccessError, match="holds no tokenizer"):
        check_tokenizer(tmp_path, ["vllm", "serve", str(tmp_path)])
    for option in ("--tokenizer", "--tokenizer=org/other", "--skip-tokenizer-init"):
        check_tokenizer(tmp_path, ["vllm", "serve", option])
    check_tokenizer(tmp_path / "nowhere", [])  # said elsewhere
    for name in ("tokenizer.json", "tekken.json", "spiece.model", "vocab.txt"):
        (tmp_path / name).touch()
        check_tokenizer(tmp_path, [])
        (tmp_path / name).unlink()
