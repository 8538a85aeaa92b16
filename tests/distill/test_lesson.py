"""A lesson from job folder to adapter, with real modules and a model small enough to be quick."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from supervisor.distill.batch import encode
from supervisor.distill.job import FAILURE, JOB, PROGRESS, RESULT, DistillFailure, DistillResult, Progress
from supervisor.distill.learn import recorded
from supervisor.distill.lesson import run_lesson
from supervisor.distill.loss import divergence
from supervisor.distill.step import FrozenBase, picked, reply_log_probs, target, until_closed
from supervisor.errors import DistillError
from tests.distill import gguf_files
from tests.distill.lessons import chat_model, job, sample, training


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return chat_model(tmp_path_factory.mktemp("base"))


def silent(_fraction: float, _step: str) -> None:
    pass


def test_a_lesson_moves_the_student_towards_the_teacher(base: Path, tmp_path: Path) -> None:
    result = run_lesson(job(base, tmp_path / "v1", updates=8, kl_reg_weight=0.0), silent)

    assert result.metrics["distill_loss"] < 0.7 * result.metrics["first_loss"]
    assert result.step == 8


def test_a_lesson_leaves_every_file_of_a_version(base: Path, tmp_path: Path) -> None:
    run_lesson(job(base, tmp_path / "v1"), silent)

    assert {path.name for path in (tmp_path / "v1").iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "adapter.gguf",
        "optimizer.safetensors",
    }


def test_the_same_job_gives_the_same_bytes(base: Path, tmp_path: Path) -> None:
    first = run_lesson(job(base, tmp_path / "a"), silent)
    second = run_lesson(job(base, tmp_path / "b"), silent)

    assert (tmp_path / "a/adapter_model.safetensors").read_bytes() == (
        tmp_path / "b/adapter_model.safetensors"
    ).read_bytes()
    assert first.probes == second.probes


def test_the_probe_is_what_the_saved_adapter_gives(base: Path, tmp_path: Path) -> None:
    result = run_lesson(job(base, tmp_path / "v1"), silent)

    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), tmp_path / "v1").eval()
    encoded = encode(sample("one"), AutoTokenizer.from_pretrained(base), max_prompt=1000)
    with torch.inference_mode():
        given = picked(reply_log_probs(model, encoded.prompt, encoded.reply), encoded.reply)
    assert result.probes[0].token_ids == encoded.reply
    torch.testing.assert_close(given, torch.tensor(result.probes[0].after), rtol=1e-4, atol=1e-5)
    assert result.probes[0].before != result.probes[0].after


def test_the_next_lesson_goes_on_from_the_parent_and_its_optimiser(base: Path, tmp_path: Path) -> None:
    first = run_lesson(job(base, tmp_path / "v1"), silent)

    second = run_lesson(job(base, tmp_path / "v2", parent=tmp_path / "v1"), silent)

    assert (first.step, second.step) == (2, 4)
    assert second.probes[0].before == pytest.approx(first.probes[0].after, abs=1e-5)
    assert second.metrics["kl_reg"] > 0  # the base is scored with the adapter off
    moments = load_file(tmp_path / "v1/optimizer.safetensors")
    assert {name.rpartition(".")[2] for name in moments} == {"exp_avg", "exp_avg_sq"}


def test_a_reply_of_an_older_version_is_weighed_against_that_version(base: Path, tmp_path: Path) -> None:
    run_lesson(job(base, tmp_path / "v1", updates=6), silent)
    by_base = job(base, tmp_path / "v2", parent=tmp_path / "v1", updates=1)
    by_parent = by_base.model_copy(
        update={"samples": tuple(one.model_copy(update={"behaviour": tmp_path / "v1"}) for one in by_base.samples)}
    )

    assert run_lesson(by_base, silent).metrics["mean_is_ratio"] != pytest.approx(1.0, abs=1e-3)
    assert run_lesson(by_parent, silent).metrics["mean_is_ratio"] == pytest.approx(1.0, abs=1e-4)


def test_the_teacher_is_the_base_that_has_read_the_feedback(base: Path, tmp_path: Path) -> None:
    run_lesson(job(base, tmp_path / "v1", updates=6), silent)
    bare = AutoModelForCausalLM.from_pretrained(base).eval()
    tuned = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), tmp_path / "v1").eval()
    encoded = encode(sample("one"), AutoTokenizer.from_pretrained(base), max_prompt=1000)

    goal = target(tuned, recorded([encoded])[0], training(teacher_top_k=20), FrozenBase(tuned))

    with torch.inference_mode():
        expected = reply_log_probs(bare, encoded.hindsight, encoded.reply).gather(-1, goal.support)
    torch.testing.assert_close(goal.teacher[:, :-1], expected, rtol=1e-4, atol=1e-5)
    assert divergence(goal.teacher, goal.teacher, alpha=0.5).abs().max() < 1e-5


def test_practice_learns_from_fresh_replies_of_the_student(base: Path, tmp_path: Path) -> None:
    steps: list[tuple[float, str]] = []

    result = run_lesson(job(base, tmp_path / "v1", rounds=3, rollouts=2), lambda done, step: steps.append((done, step)))

    assert result.step == 6
    assert result.metrics["batch_size"] == 4  # two prompts, two fresh replies each
    assert result.metrics["mean_is_ratio"] == pytest.approx(1.0, abs=0.3)
    assert any("round 2 of 3: practising 1 of 2" in step for _, step in steps)
    assert [done for done, _ in steps] == sorted(done for done, _ in steps)


def test_a_generated_reply_ends_at_its_closing_token() -> None:
    assert until_closed([5, 6, 2, 2, 2], closing=2) == [5, 6, 2]
    assert until_closed([5, 6, 7], closing=2) == [5, 6, 7]


def test_a_learning_rate_that_explodes_is_an_error_and_no_adapter(base: Path, tmp_path: Path) -> None:
    with pytest.raises(DistillError, match="lower learning_rate"):
        run_lesson(job(base, tmp_path / "v1", learning_rate=1e30, updates=4), silent)

    assert not (tmp_path / "v1/adapter.gguf").exists()


def test_the_program_reports_progress_and_leaves_a_result(base: Path, tmp_path: Path) -> None:
    folder = tmp_path / "job"
    folder.mkdir()
    (folder / JOB).write_text(job(base, tmp_path / "v1").model_dump_json())

    done = subprocess.run([sys.executable, "-m", "supervisor.distill", str(folder)], check=False)

    assert done.returncode == 0
    result = DistillResult.model_validate_json((folder / RESULT).read_text())
    assert result.peak_rss > 0
    steps = [Progress.model_validate_json(line) for line in (folder / PROGRESS).read_text().splitlines()]
    assert [one.fraction for one in steps] == sorted(one.fraction for one in steps)
    assert steps[-1].fraction == 1.0
    assert any("update 2 of 2" in one.step for one in steps)


def test_the_program_says_what_was_wrong_with_a_job(base: Path, tmp_path: Path) -> None:
    folder = tmp_path / "job"
    folder.mkdir()
    broken = json.loads(job(base, tmp_path / "v1").model_dump_json()) | {"base": str(tmp_path / "nowhere")}
    (folder / JOB).write_text(json.dumps(broken))

    done = subprocess.run([sys.executable, "-m", "supervisor.distill", str(folder)], check=False)

    assert done.returncode == 1
    assert "nowhere" in DistillFailure.model_validate_json((folder / FAILURE).read_text()).problem


def test_a_model_that_no_adapter_can_be_served_on_is_refused_before_the_training(base: Path, tmp_path: Path) -> None:
    gguf_files.changed(base / "model.gguf", tmp_path / "other.gguf", {"general.architecture": "gpt2"})
    steps: list[str] = []

    with pytest.raises(DistillError, match=r"other.gguf has architecture 'gpt2'"):
        run_lesson(
            job(base, tmp_path / "v1").model_copy(update={"base_gguf": tmp_path / "other.gguf"}),
            lambda _done, step: steps.append(step),
        )

    assert steps == []


def test_the_result_says_what_computed_it(base: Path, tmp_path: Path) -> None:
    fast = run_lesson(job(base, tmp_path / "v1"), silent).made_with
    plain = run_lesson(job(base, tmp_path / "v2", rounds=2), silent).made_with

    assert fast is not None
    assert (fast.trainer, fast.precision, fast.weights.split(",")[0]) == ("fast", "float32", "packed")
    assert plain is not None
    assert (plain.trainer, plain.weights) == ("recipe", "whole")


def test_the_fast_engine_needs_neither_peft_nor_models_of_transformers(base: Path, tmp_path: Path) -> None:
    folder = tmp_path / "job"
    folder.mkdir()
    (folder / JOB).write_text(job(base, tmp_path / "v1").model_dump_json())
    code = (
        "import sys; from pathlib import Path; from supervisor.distill.shelf import Shelf;"
        "from supervisor.distill.worker import lesson_in;"
        f"assert lesson_in(Path({str(folder)!r}), Shelf()) == 0;"
        "print(*sorted({'peft', 'transformers.modeling_utils', 'accelerate'} & set(sys.modules)))"
    )

    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert ended.stdout.strip() == ""
