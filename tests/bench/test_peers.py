"""A peer computes what our head computes, does what it is timed for, and may be absent."""

import math
import re
from importlib.metadata import PackageNotFoundError

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some

import heads
from bench import peers
from bench.cells import SWEEPS
from bench.measure.workload import Workload
from bench.peers.fasttext import END_OF_LINE, LABEL, TOKENS, FastText
from bench.peers.gensim import Gensim
from bench.peers.quack import quarter, rows
from bench.peers.trainer import LONG_ENOUGH, per_batch
from heads.trees import Tree
from reports.results import Cell

MODULES = [name for name in peers.names() if not peers.trainer(name)]
TRAINERS = [name for name in peers.names() if peers.trainer(name)]


def cell(head, phase="train", classes=50, batch=7, features=16, **more):
    return Cell("isolated", head, phase, classes, batch, features, **more)


def present(name, **more):
    """The cell of a peer that can be measured here; skips the test if it cannot."""
    found = cell(name, peers.PEERS[name].phases[0], **more)
    if reason := peers.why_not(found):
        pytest.skip(reason)
    return found


# What torch modules compute


@pytest.mark.parametrize("classes", [2, 50, 1000])
def test_torch_adaptive_is_our_adaptive_in_float64(classes):
    theirs = peers.build(cell("torch-adaptive", classes=classes)).double()
    ours = heads.build("adaptive", 16, classes).double()
    ours.adaptive.load_state_dict(theirs.state_dict())
    features = torch.randn(7, 16, dtype=torch.float64)
    target = torch.randint(classes, (7,))
    torch.testing.assert_close(theirs.log_prob(features), ours.log_prob(features))
    torch.testing.assert_close(theirs(features, target).loss, ours(features, target).loss)
    assert torch.equal(theirs.predict(features), ours.predict(features))


def loss_and_gradients(module, features, target):
    features = features.detach().requires_grad_()
    loss = module(features, target).loss
    return loss, *torch.autograd.grad(loss, [features, *module.parameters()])


@pytest.mark.parametrize("batch", [1, 7, 64])
@pytest.mark.parametrize(
    "name",
    ["linear-cross-entropy", "linear-cross-entropy-chunked", "linear-cross-entropy-auto"],
)
def test_linear_cross_entropy_is_our_softmax_in_float64(name, batch):
    theirs = peers.build(present(name)).double()
    ours = heads.build("softmax", 16, 50).double()
    ours.load_state_dict(theirs.state_dict())
    features = 3 * torch.randn(batch, 16, dtype=torch.float64)
    target = torch.randint(50, (batch,))
    for their, our in zip(
        loss_and_gradients(theirs, features, target),
        loss_and_gradients(ours, features, target),
        strict=True,
    ):
        torch.testing.assert_close(their, our)


@pytest.mark.cuda
@pytest.mark.parametrize(
    ("name", "rounding"),
    [("liger", 1e-5), ("liger-chunked", 1e-5), ("cut-cross-entropy", 2e-2)],
)
@pytest.mark.parametrize("classes", [50, 5000])
def test_a_cuda_kernel_is_our_softmax_up_to_its_rounding(name, rounding, classes):
    found = present(name, classes=classes, batch=64, features=128, device="cuda")
    theirs = peers.build(found).cuda()
    ours = heads.build("softmax", 128, classes).double().cuda()
    with torch.no_grad():
        ours.linear.bias.zero_()
    ours.load_state_dict(theirs.state_dict(), strict=False)
    features, target = torch.randn(64, 128, device="cuda"), torch.randint(classes, (64,)).cuda()
    exact = loss_and_gradients(ours, features.double(), target)
    for their, our in zip(loss_and_gradients(theirs, features, target), exact, strict=False):
        assert (their.double() - our).norm() <= rounding * our.norm()


@pytest.mark.cuda
@pytest.mark.parametrize("name", ["quack", "quack-chunked"])
@pytest.mark.parametrize("batch", [7, 64, 1000])
@pytest.mark.parametrize(("features", "classes"), [(256, 128), (256, 5120), (2048, 1024)])
def test_quack_is_our_softmax_up_to_bfloat16(name, batch, features, classes):
    size = {"batch": batch, "features": features, "classes": classes}
    theirs = peers.build(present(name, dtype="bfloat16", device="cuda", **size))
    theirs = theirs.cuda().bfloat16()
    ours = heads.build("softmax", features, classes).double().cuda()
    with torch.no_grad():
        ours.linear.bias.zero_()
    ours.load_state_dict(theirs.state_dict(), strict=False)
    seen = torch.randn(batch, features, device="cuda").bfloat16()
    target = torch.randint(classes, (batch,)).cuda()
    exact = loss_and_gradients(ours, seen.double(), target)
    for their, our in zip(loss_and_gradients(theirs, seen, target), exact, strict=False):
        assert (their.double() - our).norm() <= 2e-2 * our.norm()


@pytest.mark.parametrize("name", MODULES)
def test_every_phase_it_claims_repeats_and_leaves_the_parameters_alone(name):
    cuda = peers.PEERS[name].cuda
    device = "cuda" if cuda and torch.cuda.is_available() else "cpu"
    # Kernels for tensor cores: their dtype, and whole tiles.
    like = {"dtype": "bfloat16", "classes": 128} if name.startswith("quack") else {}
    workload = Workload(present(name, device=device, **like))
    before = [parameter.clone() for parameter in workload.parameters]
    for phase in peers.PEERS[name].phases:
        timed = workload.prepare(phase)
        for _ in range(3):
            timed.once()
    assert all(map(torch.equal, workload.parameters, before))


# What libraries that train by themselves compute


def huffman_of_sorted(counts):
    """Parents and right children of the tree that word2vec and fastText build.

    Args:
        counts: of the leaves, descending.
    """
    n = len(counts)
    weights = [*counts, *[math.inf] * (n - 1)]
    parents, rights = [-1] * (2 * n - 1), {}
    leaf, node = n - 1, n
    for new in range(n, 2 * n - 1):
        pair = []
        for _ in range(2):
            if leaf >= 0 and weights[leaf] < weights[node]:
                pair.append(leaf)
                leaf -= 1
            else:
                pair.append(node)
                node += 1
        weights[new] = weights[pair[0]] + weights[pair[1]]
        parents[pair[0]] = parents[pair[1]] = new
        rights[new] = pair[1]
    return parents, rights


def our_head(parents, rights, weight):
    """Our hierarchical head on the same tree, with the same weights, in float64."""
    classes, features = len(rights) + 1, weight.size(1)
    head = heads.build("hierarchical", features, classes, tree=Tree(torch.tensor(parents), classes))
    head = head.double()
    with torch.no_grad():
        head.rows.bias.zero_()
        for inner, rows in enumerate(head.child_rows[: classes - 1, :, 0]):
            for child, row in zip(head.child_nodes[inner].tolist(), rows.tolist(), strict=True):
                if row >= 0:
                    sign = 1 if rights[inner + classes] == child else -1
                    head.rows.weight[row] = sign * weight[inner]
    return head


@pytest.mark.parametrize("classes", [3, 37, 128])
def test_fasttext_predicts_the_top_k_of_our_head_on_the_tree_of_its_label_counts(classes):
    found = present("fasttext", classes=classes, batch=5, features=8)
    trainer = FastText(found, epoch_samples=2000, learning_rate=0.5)
    trainer.train(3)
    labels, counts = trainer.model.get_labels(include_freq=True)
    weight = torch.from_numpy(trainer.model.get_output_matrix()).double()
    head = our_head(*huffman_of_sorted(counts.tolist()), weight)
    vector = {
        word: torch.from_numpy(trainer.model.get_input_vector(trainer.model.get_word_id(word)))
        for word in (*trainer.words, END_OF_LINE)
    }
    features = [(vector[word] + vector[END_OF_LINE]).double() / 2 for word in trainer.words]
    values, indices = head.topk(torch.stack(features), 3)
    for word, value, index in zip(trainer.words, values.exp(), indices, strict=True):
        theirs, probabilities = trainer.model.predict(word, k=3)
        assert list(theirs) == [labels[i] for i in index]
        # Its logarithm is of p + 1e-5, once for each decision.
        np.testing.assert_allclose(probabilities, value.detach(), atol=2e-4)


def sigmoid_table(entries, bound, per_unit):
    """The logistic function as both libraries read it from a table: floored to an entry."""

    def sigmoid(score):
        index = int((score + bound) * per_unit)
        return 1 / (1 + math.exp(-(index * 2 * bound / entries - bound)))

    return sigmoid


def update(output, features, path, right, rate, sigmoid):
    """One SGD update of the rows on a path, in place; returns the features' step."""
    step = torch.zeros_like(features)
    for row, goes_right in zip(path, right, strict=True):
        slope = rate * (goes_right - sigmoid(float(output[row] @ features)))
        step += slope * output[row]
        output[row] += slope * features
    return step


def test_an_epoch_of_fasttext_is_one_path_update_per_line():
    found = present("fasttext", classes=37, batch=5, features=8)
    trainer = FastText(found, epoch_samples=300, learning_rate=0.5)
    trainer.train(1)
    labels, counts = trainer.model.get_labels(include_freq=True)
    parents, rights = huffman_of_sorted(counts.tolist())
    names = {label: index for index, label in enumerate(labels)}

    vectors, output = trainer.vectors.double(), torch.zeros(37, 8, dtype=torch.float64)
    tokens = TOKENS * trainer.epoch_samples + len(vectors)  # the first vectors count as read
    sigmoid = sigmoid_table(512, 8, 32)
    seen = unseen = line = 0
    while seen < tokens:
        label = int(trainer.labels[line % trainer.epoch_samples])
        word = line % trainer.epoch_samples % found.batch
        path, right, node = [], [], names[f"{LABEL}{label}"]
        while parents[node] >= 0:
            right.append(rights[parents[node]] == node)
            node = parents[node]
            path.append(node - found.classes)
        features = (vectors[word] + vectors[-1]) / 2
        rate = 0.5 * (1 - seen / tokens)
        step = update(output, features, path, right, rate, sigmoid)
        vectors[word] += step / 2
        vectors[-1] += step / 2
        line, unseen = line + 1, unseen + TOKENS
        if unseen > 100:  # it looks at the clock so often
            seen, unseen = seen + unseen, 0
    assert line == pytest.approx(trainer.epoch_samples, rel=0.1)
    theirs = torch.from_numpy(trainer.model.get_output_matrix()).double()
    torch.testing.assert_close(theirs, output, rtol=1e-4, atol=1e-5)


def test_an_epoch_of_gensim_is_one_path_update_per_word():
    trainer = Gensim(present("gensim", classes=37, features=8), 300, learning_rate=0.5)
    vectors = torch.from_numpy(trainer.model.wv.vectors.copy()).double()
    output = torch.zeros(37, 8, dtype=torch.float64)
    trainer.train(1)
    sigmoid = sigmoid_table(1000, 6, 1000 // 6 // 2)  # in whole numbers, as in its source
    for sentence in trainer.sentences:
        place = [trainer.model.wv.get_index(word) for word in sentence]
        for at, word in enumerate(sentence):
            beside = place[max(0, at - 1) : at] + place[at + 1 : at + 2]
            path = trainer.model.wv.get_vecattr(word, "point")
            right = [not code for code in trainer.model.wv.get_vecattr(word, "code")]
            step = update(output, vectors[beside].mean(dim=0), path, right, 0.5, sigmoid)
            for neighbour in beside:
                vectors[neighbour] += step
    assert sum(map(len, trainer.sentences)) == trainer.epoch_samples
    torch.testing.assert_close(
        torch.from_numpy(trainer.model.syn1).double(), output, rtol=1e-4, atol=1e-5
    )


def test_gensims_tree_is_as_deep_as_our_huffman_tree():
    trainer = Gensim(present("gensim", classes=100, features=8), 300)
    words = [str(label) for label in range(100)]
    theirs = sum(len(trainer.model.wv.get_vecattr(word, "code")) for word in words) / 100
    assert theirs == heads.trees.huffman([3] * 100).expected_depth()


@pytest.mark.parametrize("name", TRAINERS)
def test_every_class_occurs_equally_often_in_an_epoch(name):
    found = present(name, classes=37, features=8)
    trainer = peers.trainer(name)(found, 300)
    if name == "gensim":
        labels = [int(word) for sentence in trainer.sentences for word in sentence]
    else:
        labels = trainer.labels.tolist()
    assert np.bincount(labels).tolist() == [trainer.epoch_samples // 37] * 37
    assert len(labels) == trainer.epoch_samples >= 300


# How a library's time becomes a figure


@pytest.mark.parametrize("each", [0.001, 0.3, 5.0])
def test_time_per_batch_is_that_of_a_run_long_enough(each):
    runs = []

    def run(repeats):
        runs.append(repeats)
        return each * repeats

    timing = per_batch(run, batches=4)
    assert each * runs[-1] >= LONG_ENOUGH
    assert timing.seconds == pytest.approx([each / 4])
    assert timing.iterations == 4 * runs[-1]


# Peers that cannot be measured


def test_an_absent_peer_is_named_with_its_package(monkeypatch):
    def nothing(_):
        raise PackageNotFoundError

    monkeypatch.setattr(peers, "version", nothing)
    for name, peer in peers.PEERS.items():
        device = "cuda" if peer.cuda else "cpu"
        reason = peers.why_not(cell(name, peer.phases[0], device=device))
        package = re.split("[<>=]", peer.requirement)[0]
        assert reason == f"{name} is absent: {package} is not installed"


def test_an_old_peer_is_absent(monkeypatch):
    monkeypatch.setattr(peers, "version", lambda _: "2.12.1+cpu")
    assert peers.why_not(cell("linear-cross-entropy")) == (
        "linear-cross-entropy is absent: it needs torch>=2.13, 2.12.1+cpu is installed"
    )
    assert not peers.why_not(cell("torch-adaptive"))


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (cell("liger"), "liger runs on CUDA only"),
        (cell("fasttext", device="cuda"), "fasttext runs on the CPU only"),
        (cell("gensim", "predict"), "gensim has no predict phase of its own"),
        (Cell("in-model", "gensim", "train", 10, 4, 8), "gensim is measured alone only"),
        (cell("softmax"), ""),
    ],
)
def test_what_cannot_be_measured_is_said(found, reason):
    assert peers.why_not(found) == reason


@pytest.mark.parametrize(
    ("differs", "reason"),
    [
        ({}, ""),
        ({"dtype": "autocast-bfloat16"}, ""),
        ({"dtype": "float32"}, "quack computes in bfloat16 only"),
        ({"dtype": "float16"}, "quack computes in bfloat16 only"),
        ({"classes": 100}, "quack takes multiples of 128 classes and of 8 features only"),
        ({"features": 12}, "quack takes multiples of 128 classes and of 8 features only"),
        ({"batch": 2_000}, "quack takes no chunk of 2,048 samples of as many features"),
        (
            {"features": 4_096, "batch": 8_192},
            "quack takes no chunk of 4,096 samples of as many features",
        ),
    ],
)
def test_quack_refuses_what_its_fused_kernels_do_not_compute(monkeypatch, differs, reason):
    monkeypatch.setattr(peers, "version", lambda _: "0.6.5")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    fits = {"classes": 2**15, "features": 2048, "dtype": "bfloat16", "device": "cuda"}
    assert peers.why_not(cell("quack", **(fits | differs))) == reason


@given(some.integers(1, 10_000), some.sampled_from([128 * n for n in range(1, 40)]))
def test_a_quarter_of_quacks_batch_is_in_four_chunks_at_most_or_more_of_it_at_a_time(
    batch, features
):
    size = quarter(batch, features)
    assert size % 128 == 0
    assert -(-batch // size) <= 4
    chunks = [min(size, batch - begin) for begin in range(0, batch, size)]
    assert rows(batch, size) == {128 * -(-chunk // 128) for chunk in chunks}
    if features in rows(batch, size):
        padded = range(128, batch + 128, 128)
        assert all(features in rows(batch, one) for one in padded if one >= size)


@pytest.mark.parametrize(
    ("capability", "reason"),
    [((9, 0), ""), ((8, 0), "quack runs on GPUs of compute capability 9.0 only")],
)
def test_quack_refuses_gpus_that_its_fused_kernels_are_not_for(monkeypatch, capability, reason):
    monkeypatch.setattr(peers, "version", lambda _: "0.6.5")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    assert peers.why_not(cell("quack", classes=128, dtype="bfloat16", device="cuda")) == reason


def test_a_peer_that_is_a_module_computes_a_function_of_ours_and_a_library_its_own():
    others = {"softmax": "", "fasttext": "", "gensim": "", "torch-adaptive": "adaptive"}
    losses = {name: "softmax" for name in peers.names() if name not in others}
    assert {name: peers.computes(name) for name in others | losses} == others | losses
    assert {"liger", "quack", "cut-cross-entropy", "linear-cross-entropy"} <= {*losses}


@pytest.mark.parametrize("name", peers.names())
def test_a_peers_memory_is_predicted_from_a_head_of_ours(name):
    twin = peers.measured_as(cell(name))
    assert twin.head in heads.names()
    assert peers.measured_as(twin) == twin


# A whole run


def test_the_peers_sweep_holds_every_peer():
    assert set(SWEEPS["peers"].heads) > set(peers.names())


def test_a_sweep_of_peers_has_an_entry_for_every_cell_of_every_peer(headbench):
    status, output, errors = headbench.run(
        *("--sweep", "peers", "--heads", ",".join(["softmax", *peers.names()])),
        *("--classes", "20", "--batches", "4", "--passes", "1"),
        *("--threads", "1", "--benchmark-max-time=0.005"),
    )
    assert status == 0, output + errors
    lines = headbench.journal()
    assert len(lines) == headbench.facts()["planned"]
    assert {line["status"] for line in lines} <= {"measured", "skipped"}
    for line in lines:
        where = Cell(**line["cell"])
        assert line.get("reason", "") == peers.why_not(where)
        if line["status"] == "measured" and line["kind"] == "time":
            assert min(line["seconds"]) > 0
            assert line["iterations"] >= 1
            assert (line["multiply_adds"] is None) == (where.head in peers.names())
            assert line["computes"] == peers.computes(where.head)
    assert {line["cell"]["head"] for line in lines} == {"softmax", *peers.names()}
    assert {line["cell"]["head"] for line in lines} > set(peers.names())


@pytest.mark.parametrize("name", TRAINERS)
@pytest.mark.parametrize("other", [{"labels": "zipf:1"}, {"phase": "predict", "state": "sure"}])
def test_a_library_with_data_of_its_own_is_measured_on_no_other(name, other):
    told = peers.why_not(cell(name, **other))
    assert "makes its own data" in told or "has no predict phase" in told
