"""The explorer: what it computes, the traits it writes, its worker, and the page in a real browser."""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from conftest import tiny_model
from prefvec.errors import ConfigError, TraitError
from prefvec.explore import curves, custom, plots
from prefvec.explore.look import html
from prefvec.explore.page import Page
from prefvec.explore.session import METHODS, PANES, Choice, Session
from prefvec.explore.worker import Stopped, Worker
from prefvec.generation import generate
from prefvec.models.registry import ModelSpec
from prefvec.paths import RESULTS, ROOT, pair_name
from prefvec.profile import load_profile
from prefvec.steering import Steer
from prefvec.traits import Poles, load_trait
from prefvec.vectors import cosine

SOURCE, TARGET = "qwen2.5-coder-0.5b-instruct", "smollm2-135m-instruct"
HOSTILE = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\"> 50 % _a_ & \\b $x$ {y} {{z}} 'ж 漢字 ‮ <!--"


@pytest.fixture
def session(tmp_path, store):
    """A session of two tiny models under the names of two real ones."""
    models = {
        name: replace(tiny_model(kind), spec=ModelSpec(id=name, path="/nowhere", prompt="examples"))
        for name, kind in ((SOURCE, "qwen2"), (TARGET, "llama"))
    }
    pool = SimpleNamespace(get=models.__getitem__, loaded=lambda: list(models.values()))
    settings = load_profile("smoke").settings_for(SOURCE, TARGET, "verbosity")
    return Session(settings, tmp_path / "mine", "paper", pool, store)


def choice(**changes):
    chosen = dict(
        source=SOURCE, target=TARGET, trait="verbosity", method="ridge_concept", layer_source=1,
        layer_target=2, dose=2.0, question="What is dew?", limit=8,
    )  # fmt: skip
    return Choice(**{**chosen, **changes})


def test_every_method_gives_a_vector_of_the_own_vectors_length_at_any_two_layers(session):
    own = session.direction(choice(method="oracle"))
    assert own.shape == (32,) and np.linalg.norm(own) > 0
    found = {m: session.direction(choice(method=m)) for m in METHODS}
    for method, vector in found.items():
        assert np.linalg.norm(vector) == pytest.approx(np.linalg.norm(own), rel=1e-4), method
    assert len({v.tobytes() for v in found.values()}) >= len(METHODS) - 1
    other = session.direction(choice(layer_source=3, layer_target=0))
    assert not np.allclose(other, found["ridge_concept"])
    with pytest.raises(ConfigError, match="method 'magic' is unknown"):
        session.direction(choice(method="magic"))
    with pytest.raises(ConfigError, match="layer 9 is out of range"):
        session.direction(choice(layer_target=9))


def test_four_answers_are_written_in_view_and_dose_zero_changes_none(session, monkeypatch):
    asked = []

    def recorded(loaded, requests, *args, **kwargs):
        asked.append((loaded.id, [request.steers for request in requests]))
        return generate(loaded, requests, *args, **kwargs)

    monkeypatch.setattr("prefvec.explore.session.generate", recorded)
    told = {pane: [] for pane in PANES}
    written = dict(session.compare(choice(dose=-3.0), lambda pane, text: told[pane].append(text)))
    assert list(written) == list(PANES)
    for pane, answer in written.items():
        assert told[pane][-1] == answer.text and len(told[pane]) > 1
    own = session.study(SOURCE, TARGET, "verbosity").vector(session.pool.get(SOURCE)).at(1)
    assert asked == [
        (TARGET, [(), (Steer(session.direction(choice()), 2, -3.0),)]),
        (SOURCE, [(), (Steer(own, 1, -3.0),)]),
    ]
    still = dict(session.compare(choice(dose=0.0), lambda *_: None))
    assert still["target_steered"] == still["target_plain"] == written["target_plain"]
    with pytest.raises(ConfigError, match="the question is empty"):
        next(session.compare(choice(question=" \n"), lambda *_: None))


def test_the_curves_say_what_was_computed(session):
    *_, scores = curves.dose_curve(session, choice())
    assert sorted(set(scores.dose)) == [*curves.DOSES[:3], 0.0, *curves.DOSES[3:]]
    assert set(scores.method) == {"unsteered", "oracle", "ridge_concept", "random_0"}
    assert all(0 <= e.low <= e.value <= e.high <= 8 for e in scores.score)
    steps = []
    *_, angles = curves.cosine_curve(session, choice(), lambda *at: steps.append(at))
    own = session.direction(choice(method="oracle"))
    [at] = angles[(angles.method == "ridge_concept") & (angles.layer == 2)].cosine
    assert at == pytest.approx(cosine(session.direction(choice()), own))
    assert steps[-1][0] + 1 == steps[-1][1] == angles.layer.nunique()
    drawn = plots.dose_plot(scores, "tokens", "$ {x", "ridge_concept", 2.0, Poles(positive="$\\a$"))
    assert drawn[:4] == b"\x89PNG"
    assert plots.cosine_layers_plot(angles, "t", "zero_pad", 2, 32, 0.3)[:4] == b"\x89PNG"


def test_a_pair_begins_where_its_saved_run_was_and_else_in_the_middle(session):
    manifest = RESULTS / "paper" / pair_name(SOURCE, TARGET) / "verbosity" / "manifest_04.json"
    site = json.loads(manifest.read_text())["site"]
    start = session.start(SOURCE, TARGET, "verbosity")
    assert (start.n_source, start.n_target, start.width) == (4, 4, 32)
    assert (start.layer_source, start.layer_target) == (site["layer_source"], site["layer_target"])
    assert start.dose == -site["dose"]  # verbosity is steered towards concise
    saved = session.saved(SOURCE, TARGET, "verbosity")
    assert {"oracle", "ridge_concept", "random_0"} <= set(saved.scores.method) and saved.n == 40
    assert plots.cosine_methods_plot(saved.cosines, "t", "procrustes", 576)[:4] == b"\x89PNG"
    path = custom.save("verbosity2", "Be long.", "Be short.", session.folder)
    assert session.saved(SOURCE, TARGET, str(path)) is None
    assert session.start(SOURCE, TARGET, str(path))[3:] == (1, 1, 1.5)


def test_a_trait_of_two_sentences_is_checked_field_by_field(tmp_path):
    def bad(*given):
        return custom.problems(*given, tmp_path)

    assert bad("poetic", "Be a poet.", "Be a manual.") == {}
    assert set(bad("", " ", "")) == {"name", "positive", "negative"}
    assert "lower-case letters" in bad("../Evil", "a", "b")["name"]
    assert "built-in" in bad("verbosity", "a", "b")["name"]
    assert "must ask for opposites" in bad("x", "same", " same ")["negative"]
    assert "at most 1000" in bad("x", "y" * 1001, "b")["positive"]
    custom.save("poetic", "Be a poet.", "Be a manual.", tmp_path)
    assert "you have a trait 'poetic' already" in bad("poetic", "a", "b")["name"]
    with pytest.raises(TraitError, match="name: you have a trait 'poetic' already"):
        custom.save("poetic", "a", "b", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["poetic.yaml"]


def test_a_saved_trait_holds_any_text_and_its_commands_are_the_repositorys(tmp_path):
    path = custom.save("hostile", HOSTILE, "---\n- a: b # c\n", tmp_path / "a folder")
    trait = load_trait(path)
    assert trait.instructions[0].positive == HOSTILE and trait.measure == "classifier"
    whole, one = (shlex.split(c) for c in custom.commands(path, SOURCE, TARGET))
    assert whole[0] == "./run_all.sh" and whole[whole.index("--trait") + 1] == str(path)
    assert f"trait={path}" in one and one[:3] == ["prefvec", "notebook", "04"]
    inside = custom.commands(ROOT / "my_traits" / "x.yaml", SOURCE, TARGET)[0]
    assert inside.endswith("--trait my_traits/x.yaml")


def test_the_worker_reports_stops_and_survives_errors():
    seen = []
    worker = Worker(seen.append)

    def ends(work):
        assert worker.start("begin", work)
        worker.wait(10)
        assert not worker.busy
        return seen[-1]

    def goes_on(worker):
        assert not worker.start("second", lambda _: "never")
        worker.say("half", 0.5)
        return "done"

    assert ends(goes_on).text == "done"
    assert [(s.busy, s.text, s.share) for s in seen[:2]] == [
        (True, "begin", None),
        (True, "half", 0.5),
    ]

    def stopped(worker):
        worker.stop()
        worker.check()

    assert ends(stopped) == (False, "stopped; what was computed is kept", None, False)

    def fails(error):
        def work(_worker):
            raise error

        return ends(work)

    assert fails(ConfigError("say what")) == (False, "say what", None, True)
    last = fails(RuntimeError("two\nlines"))
    assert last.error and last.text == "unexpected RuntimeError: two lines"
    with pytest.raises(Stopped):
        worker.stop()
        worker.say("more")


def test_text_is_escaped_wherever_it_goes():
    assert html("<b>{a}</b>", a="<i> {b} & '") == "<b>&lt;i&gt; {b} &amp; &#x27;</b>"


@pytest.fixture
def shown(session):
    """The page without a browser."""
    page = Page(session)
    page.show()
    page.worker.wait(60)
    return page


def endless(_choice, show):
    """An answer that grows until it is stopped."""
    while True:
        show("target_plain", "so far")
        time.sleep(0.01)
        yield from ()


def texts_of(page):
    return [view.value for view in page.panes.box.children]


def test_the_page_steers_and_says_what_is_wrong(shown):
    assert "Ready" in shown.status.value
    assert (shown.controls.layer_source.value, shown.controls.layer_target.max) == (3, 3)
    shown.controls.question.value, shown.controls.dose.value = HOSTILE, 4.0
    shown.steer.click()
    assert shown.worker.busy and shown.steer.disabled and not shown.stop.disabled
    shown.worker.wait(120)
    assert "done" in shown.status.value and not shown.steer.disabled
    texts = texts_of(shown)
    assert all(" tokens, " in text for text in texts)
    assert "dose +4" in texts[1] and "dose +4" in texts[3] and "unsteered" in texts[0]
    shown.session.compare = endless
    shown.steer.click()
    while "so far" not in shown.panes.box.children[0].value:
        time.sleep(0.05)
    shown.stop.click()
    shown.worker.wait(60)
    assert "stopped; what was computed is kept" in shown.status.value
    assert "so far" in texts_of(shown)[0] and "stopped" in texts_of(shown)[0]
    shown.controls.question.value = ""
    shown.steer.click()
    shown.worker.wait(60)
    assert "pv-error" in shown.status.value and "the question is empty" in shown.status.value
    (shown.session.folder / "broken.yaml").parent.mkdir(exist_ok=True)
    (shown.session.folder / "broken.yaml").write_text("name: [")
    shown._list_traits("verbosity")
    shown.controls.trait.value = str(shown.session.folder / "broken.yaml")
    assert "broken.yaml can&#x27;t be read" in shown.status.value
    assert not shown.steer.disabled


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def test_a_port_in_use_and_a_misspelt_parameter_are_one_line():
    command = [sys.executable, "-m", "prefvec.cli", "explore", "--no-browser"]
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = subprocess.run([*command, "--port", port], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: --port {port}: it is in use")
    done = subprocess.run([*command, "-p", "sorce=x"], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2 and "unknown parameter 'sorce'" in done.stderr


@pytest.fixture
def address(tmp_path):
    """The explorer of the smallest profile as the command line serves it, SmolLM2 to itself."""
    given = {"source": TARGET, "target": TARGET, "max_new_tokens": 16, "traits_folder": tmp_path}
    command = [
        sys.executable, "-m", "prefvec.cli", "explore", "--no-browser", "--port", str(free_port()),
        "--profile", "smoke", *(x for k, v in given.items() for x in ("-p", f"{k}={v}")),
    ]  # fmt: skip
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT / "paper_src"), os.environ.get("PYTHONPATH", "")]),
    }
    server = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )  # fmt: skip
    try:
        line = server.stdout.readline()
        assert line.startswith("explorer: http://127.0.0.1:"), line
        yield re.search(r"http\S+", line).group()
    finally:
        server.send_signal(signal.SIGINT)
        told, _ = server.communicate(timeout=60)
    assert server.returncode == 0 and told.strip() == "explorer: stopped"


LONG = 300_000  # ms; a wait is short on an idle machine
# Every line of the status: a short answer's "writing" may come and go between two looks at the page.
WATCH_STATUS = """
window.said = [];
new MutationObserver((changes) => {
  for (const change of changes)
    for (const node of change.addedNodes) said.push(node.textContent);
}).observe(document.querySelector(".pv-status"), { childList: true, subtree: true });
"""


@pytest.mark.real
def test_a_reader_steers_and_makes_a_trait_in_a_browser(browser, address, tmp_path):
    page = browser.new_page(viewport={"width": 1280, "height": 1400})
    page.set_default_timeout(LONG)
    elsewhere = []
    page.on(
        "response",
        lambda r: (
            None
            if r.url.startswith((address, "data:", "blob:", "ws:"))
            else elsewhere.append(r.url)
        ),
    )
    page.goto(address, wait_until="commit")
    page.wait_for_selector(".pv-status >> text=Ready")

    page.evaluate(WATCH_STATUS)

    def steer():
        page.evaluate("said = []")
        page.click(".pv-steer")
        page.wait_for_function("said.at(-1)?.includes('done')")
        said = page.evaluate("said")
        assert re.search("writing|carrying|loading", "".join(said[:-1])), said
        return [page.inner_text(f".pv-{p} .pv-text") for p in ("target-plain", "target-steered")]

    page.select_option(".pv-method select", label="target's own vector (the reference)")
    page.locator(".pv-dose .noUi-handle").press("End")
    page.wait_for_selector("text=towards verbose, 4 × the own vector's length")
    plain, steered = steer()
    assert plain and steered != plain
    page.locator(".pv-dose .noUi-handle").press("Home")
    page.wait_for_selector("text=towards concise")
    again, other = steer()
    assert again == plain and other not in (plain, steered)
    assert "dose -4" in page.inner_text(".pv-target-steered")

    page.fill(".pv-make-name input", "Not A Name")
    page.click(".pv-make")
    page.wait_for_selector(".pv-bad-name >> text=lower-case letters")
    page.fill(".pv-make-name input", "hostile")
    page.fill(".pv-make-positive textarea", HOSTILE)
    page.fill(".pv-make-negative textarea", "Answer plainly.")
    page.click(".pv-make")
    page.wait_for_selector(".pv-made >> text=Saved as")
    saved = load_trait(tmp_path / "hostile.yaml")
    assert saved.instructions[0].positive == HOSTILE
    assert "./run_all.sh --quick" in page.inner_text(".pv-made")
    picked = page.eval_on_selector(".pv-trait select", "menu => menu.selectedOptions[0].text")
    assert picked.replace("\xa0", " ") == "hostile (yours)"
    page.wait_for_selector(".pv-status >> text=Ready")

    page.fill(".pv-question textarea", HOSTILE)
    steer()
    assert page.title() != "owned"
    assert page.locator(".pv-text script, .pv-text img").count() == 0
    assert elsewhere == []


def test_a_trait_made_on_the_page_is_picked_with_its_own_start(shown):
    for field, text in (("name", "poetic"), ("positive", "Be a poet."), ("negative", "Be dry.")):
        shown.maker._fields[field].value = text
    shown.maker.button.click()
    shown.worker.wait(60)
    assert shown.controls.trait.label == "poetic (yours)" and shown.controls.dose.value == 1.5
    assert "towards positive" in shown.controls.towards.value
    shown.maker.button.click()
    assert "you have a trait" in shown.maker._errors["name"].value
