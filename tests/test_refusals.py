"""A misspelt row, setting, scale or protocol is answered in a line with near names, before torch is imported."""

from __future__ import annotations

import subprocess
import sys

import pytest

from bench import refusals, suite
from bench.config import ConfigError

ANSWERS = {
    "updats=4": r"^there is no setting updats; did you mean updates\? `python -m bench\.train --cfg job` shows all$",
    "+updats=4": r"^there is no setting updats; did you mean updates\? ",
    "optim.rat=1": r"^there is no setting optim\.rat; did you mean optim\.rate",
    "rate=1": r"^there is no setting rate; did you mean optim\.rate",
    "tasks.txt.updates=4": r"^there is no setting tasks\.txt\.updates; did you mean tasks\.text\.updates",
    "backbones.sd4.guidance=1": r"^there is no setting backbones\.sd4\.guidance; did you mean backbones\.sd3\.guidance",
    "scale=tny": r"^there is no scale 'tny'; did you mean tiny\?$",
    "protocol=x": r"^there is no protocol 'x'; wanted one of paired, released$",
    "optim.rate=fast": r"^optim\.rate=fast does not fit: Value 'fast' of type 'str' could not be converted to Float$",
    "updates=[": r"^'updates=\[' is no setting: wanted KEY=VALUE",
}

# Each command with a word that is misspelt, then whether torch was imported.
COMMANDS = """
import sys
from bench import score_lora, study, suite, train

def told(name, main, *words):
    sys.argv = [name, *words]
    try:
        code = main()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else print(ended.code, file=sys.stderr)
    return code

told("bench.train", train.command, "row=sd3_flow_txt")
told("bench.train", train.command, "row=sd3_flow_text", "updats=4")
told("bench.train", train.command, "row=sd3_flow_text", "updates=3")
told("bench.suite", suite.main, "table1", "scale=tny")
told("bench.suite", suite.main, "table1", "--rows", "sd3_flow_txt")
told("bench.study", study.main, "--rows", "sd3_flow_txt")
told("bench.study", study.main, "--check", "nosuch", "0")
told("bench.study", study.main, "updats=4")
told("bench.score_lora", score_lora.main, "a/b", "--backbone", "tiny_sd3", "protocol=pared")
told("bench.score_lora", score_lora.main, "a/b", "--backbone", "tiny_sd3", "--proxy", "txt")
sys.exit("torch" in sys.modules or "diffusers" in sys.modules)
"""


@pytest.mark.parametrize("override", ANSWERS)
def test_what_no_setting_is_called_is_one_line_with_near_names(override: str) -> None:
    with pytest.raises(ConfigError, match=ANSWERS[override]) as raised:
        suite.configure("sd3_flow_text", [override])
    assert "\n" not in str(raised.value)


def test_a_name_like_no_other_is_answered_with_all() -> None:
    assert refusals.unknown("scale", "xyz", ["tiny", "paper"]) == "there is no scale 'xyz'; wanted one of tiny, paper"


def test_every_command_answers_a_misspelt_word_in_a_line_before_torch_is_imported() -> None:
    done = subprocess.run([sys.executable, "-c", COMMANDS], capture_output=True, text=True)
    said = done.stderr.splitlines()
    near = [
        "did you mean one of: sd3_flow_text", "did you mean updates?", "updates=3 is not a positive multiple",
        "did you mean tiny?", "table1 has no row 'sd3_flow_txt'", "did you mean one of: sd3_flow_text",
        "no row is called 'nosuch'; `python -m bench.suite table1 --list` lists",
        "did you mean updates?", "did you mean paired?", "did you mean text?",
    ]  # fmt: skip
    assert len(said) == len(near) and all(words in line for words, line in zip(near, said, strict=True)), said
    assert (done.returncode, done.stdout) == (0, "")
