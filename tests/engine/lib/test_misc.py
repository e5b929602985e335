import sys

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from roga_domainbed.engine.datasets.tensors import TensorEnvironment
from roga_domainbed.engine.lib import misc
from roga_domainbed.errors import RogaError


class Labelled:
    """A dataset whose images must not be read."""

    def __init__(self, labels):
        self.labels = np.array(labels)

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        raise AssertionError("an image was decoded")


class Fixed(nn.Module):
    """Predicts its input."""

    def __init__(self):
        super().__init__()
        self.frozen = nn.BatchNorm1d(1)
        self.layer = nn.Dropout()

    def predict(self, x):
        assert not any(module.training for module in self.modules())
        return x


def loader(x, y, batch_size=3):
    return DataLoader(TensorDataset(torch.tensor(x), torch.tensor(y)), batch_size)


def test_seed_hash_is_upstreams(oracle):
    for args, expected in oracle("seed_hash"):
        assert misc.seed_hash(*args) == expected, args


def test_split_dataset_gives_upstreams_indices(oracle):
    for case in oracle("splits")["split_dataset"]:
        first, second = misc.split_dataset(range(case["n_total"]), case["n_first"], case["seed"])
        assert first.keys == case["first_keys"]
        assert second.keys == case["second_keys"]


def test_two_splits_in_a_row_give_upstreams_in_out_and_uda_indices(oracle):
    for case in oracle("splits")["train_procedure"]:
        seed = misc.seed_hash(case["trial_seed"], case["env_i"])
        assert seed == case["seed"]
        n_out = int(case["n"] * case["holdout_fraction"])
        out, inside = misc.split_dataset(range(case["n"]), n_out, seed)
        if case["env_i"] in case["test_envs"]:
            n_uda = int(len(inside) * case["uda_holdout_fraction"])
            uda, inside = misc.split_dataset(inside, n_uda, seed)
            assert [uda[i] for i in range(len(uda))] == case["uda_original_indices"]
        assert [inside[i] for i in range(len(inside))] == case["in_original_indices"]
        assert [out[i] for i in range(len(out))] == case["out_original_indices"]


@pytest.mark.parametrize("n", [-1, 4])
def test_a_split_larger_than_the_dataset_is_refused(n):
    with pytest.raises(RogaError, match=f"cannot put {n} of 3 samples aside"):
        misc.split_dataset(range(3), n)


def test_a_split_knows_its_labels_without_reading_an_image():
    first, second = misc.split_dataset(Labelled([10, 11, 12, 13]), 1)
    assert first.labels.tolist() == [10 + key for key in first.keys]
    assert second.labels.tolist() == [10 + key for key in second.keys]
    nothing, _ = misc.split_dataset(Labelled([1, 2]), 0)
    assert nothing.labels.tolist() == []


def test_a_split_of_a_dataset_without_labels_has_none():
    first, _ = misc.split_dataset([(0, 0), (1, 1)], 1)
    assert not hasattr(first, "labels")


def test_the_evaluation_view_of_a_split_keeps_its_samples():
    class Augmented(Labelled):
        evaluation = [("plain", 0), ("plain", 1), ("plain", 2)]

    first, _ = misc.split_dataset(Augmented([0, 1, 2]), 2)
    assert first.evaluation[0] == ("plain", first.keys[0])
    assert len(first.evaluation) == 2
    never_augmented = TensorEnvironment(torch.zeros(3, 1), [0, 1, 0])
    split, _ = misc.split_dataset(never_augmented, 2)
    assert split.evaluation is split


def test_balanced_weights_are_upstreams(oracle):
    expected = oracle("weights")
    weights = misc.make_weights_for_balanced_classes(Labelled(expected["labels"]))
    assert weights.dtype == torch.float32
    assert weights.tolist() == expected["weights"]
    from_samples = misc.make_weights_for_balanced_classes([(None, y) for y in expected["labels"]])
    assert torch.equal(weights, from_samples)


def test_balanced_weights_of_nothing_are_empty():
    assert misc.make_weights_for_balanced_classes(Labelled([])).shape == (0,)


def test_accuracy_counts_the_largest_logit():
    x = [[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [3.0, 2.0]]
    assert misc.accuracy(Fixed(), loader(x, [0, 1, 0, 1]), None, "cpu") == 0.5


def test_accuracy_of_a_single_logit_counts_its_sign():
    # Upstream compares (N, 1) with (N,) and counts every pair: a perfect model of four samples scores 2.5 there.
    x = [[-1.0], [2.0], [-3.0], [4.0]]
    assert misc.accuracy(Fixed(), loader(x, [0, 1, 0, 1]), None, "cpu") == 1.0
    assert misc.accuracy(Fixed(), loader([-1.0, 2.0, -3.0, 4.0], [0, 1, 0, 0]), None, "cpu") == 0.75


def test_accuracy_weighs_samples_in_loader_order():
    x = [[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [3.0, 2.0]]
    weights = torch.tensor([1.0, 2.0, 3.0, 4.0])
    assert misc.accuracy(Fixed(), loader(x, [0, 1, 0, 1]), weights, "cpu") == pytest.approx(3 / 10)


@pytest.mark.parametrize("training", [True, False])
def test_accuracy_leaves_every_module_in_its_mode(training):
    network = Fixed().train(training)
    network.frozen.eval()
    misc.accuracy(network, loader([[1.0, 0.0]], [0]), None, "cpu")
    assert (network.training, network.layer.training, network.frozen.training) == (training, training, False)


def test_accuracy_leaves_the_mode_when_prediction_fails():
    network = Fixed()
    network.predict = lambda x: 1 / 0
    with pytest.raises(ZeroDivisionError):
        misc.accuracy(network, loader([[1.0]], [0]), None, "cpu")
    assert network.training


def test_accuracy_of_an_empty_loader_is_refused():
    with pytest.raises(RogaError, match="accuracy of nothing"):
        misc.accuracy(Fixed(), [], None, "cpu")


def test_print_row_prints_what_upstream_prints(oracle, capsys):
    for case in oracle("print_row"):
        misc.print_row(case["row"], case["colwidth"], case["latex"])
        assert capsys.readouterr().out == case["output"]


def test_print_row_formats_numpy_floats_like_pythons(capsys):
    misc.print_row([np.float32(0.5), np.int64(3)], colwidth=14)
    assert capsys.readouterr().out == "0.5000000000    3              \n"


def test_print_separator_prints_80_equals_signs(capsys):
    misc.print_separator()
    assert capsys.readouterr().out == "=" * 80 + "\n"


@pytest.mark.parametrize("channel", ["stdout", "stderr"])
def test_tee_writes_to_its_stream_and_to_the_file_and_puts_the_stream_back(channel, capsys, tmp_path):
    path = tmp_path / "out.txt"
    path.write_text("before\n")
    stream = getattr(sys, channel)
    with misc.Tee(path, channel=channel) as tee:
        assert getattr(sys, channel) is tee
        print("héllo", file=getattr(sys, channel))
        assert path.read_text(encoding="utf-8") == "before\nhéllo\n"
    assert getattr(sys, channel) is stream
    assert tee.file.closed
    captured = capsys.readouterr()
    assert getattr(captured, channel[3:]) == "héllo\n"


def test_tee_starts_anew_with_mode_w(tmp_path):
    path = tmp_path / "out.txt"
    path.write_text("before\n")
    with misc.Tee(path, mode="w"):
        print("after")
    assert path.read_text() == "after\n"


def test_tee_answers_what_libraries_ask_of_a_stream(capfd, tmp_path):
    stream = sys.stdout
    with misc.Tee(tmp_path / "out.txt") as tee:
        assert tee.isatty() is False
        assert tee.encoding == stream.encoding
        assert tee.fileno() == stream.fileno()
        assert tee.write("abc") == 3


def test_tee_puts_the_stream_back_after_an_exception(tmp_path):
    stream = sys.stdout
    with pytest.raises(KeyError), misc.Tee(tmp_path / "out.txt"):
        raise KeyError
    assert sys.stdout is stream


def batches(*rows):
    return [(torch.full((n, 1), float(i)), torch.full((n,), i)) for i, n in enumerate(rows)]


def test_random_pairs_form_one_circle_and_are_cut_to_the_shorter():
    torch.manual_seed(0)
    pairs = misc.random_pairs_of_minibatches(batches(4, 2, 3))
    rows = [4, 2, 3]
    successor = {}
    for (x1, y1), (x2, y2) in pairs:
        i, j = int(y1[0]), int(y2[0])
        successor[i] = j
        assert len(x1) == len(y1) == len(x2) == len(y2) == min(rows[i], rows[j])
    assert set(successor) == {0, 1, 2}
    assert {successor[0], successor[successor[0]], successor[successor[successor[0]]]} == {0, 1, 2}


def test_meta_split_pairs_every_training_domain_with_a_test_domain_in_turn():
    torch.manual_seed(0)
    pairs = misc.split_meta_train_test(batches(2, 2, 2, 2, 2), num_meta_test=2)
    train = [int(y[0]) for (_, y), _ in pairs]
    test = [int(y[0]) for _, (_, y) in pairs]
    assert len(set(train)) == 3
    assert test[0] == test[2] != test[1]
    assert not set(train) & set(test)


@pytest.mark.parametrize("num_meta_test", [0, 2])
def test_a_meta_split_without_both_sides_is_refused(num_meta_test):
    with pytest.raises(RogaError, match="both sides need at least one"):
        misc.split_meta_train_test(batches(2, 2), num_meta_test)
