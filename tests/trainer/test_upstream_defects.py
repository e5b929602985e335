"""The sentences about DomainBed's own algorithms, from the arguments alone."""

import pytest

from roga_domainbed.upstream.defects import Job, explain, notices, refusals, saved_state


@pytest.mark.parametrize(
    ("n_train_envs", "n_meta_test", "left_for_training"),
    [(1, 1, 0), (1, 2, 0), (2, 2, 0), (2, 1, 1), (3, 2, 1)],
)
def test_mldg_is_said_to_learn_nothing_where_no_environment_is_left(
    n_train_envs, n_meta_test, left_for_training
):
    # upstream trains on the permuted environments [:n - m], which counts from the end where m exceeds n
    assert len(range(n_train_envs)[: n_train_envs - n_meta_test]) == left_for_training
    said = notices(Job("MLDG", {"n_meta_test": n_meta_test}, n_train_envs))
    assert bool(said) == (left_for_training == 0)


def test_a_sound_job_has_nothing_said_about_it():
    for name in ("ERM", "ERMPlusPlus", "CORAL"):
        job = Job(name, {"lars": False, "vit": False}, 3)
        assert refusals(job) == notices(job) == []
        assert explain(job, RuntimeError("CUDA out of memory")) is None


def test_an_algorithm_that_averages_its_weights_itself_is_not_averaged():
    hparams = {"lars": False, "vit": False, "averaging": "ema"}
    (refusal,) = refusals(Job("ERMPlusPlus", hparams, 3))
    assert "ERMPlusPlus averages its weights itself" in refusal
    assert (
        refusals(Job("ERM", hparams, 3))
        == refusals(Job("ERMPlusPlus", {**hparams, "averaging": "none"}, 3))
        == []
    )


def test_the_burn_in_of_eqrm_is_named_only_where_it_is_no_whole_number():
    assert notices(Job("EQRM", {"eqrm_burnin_iters": 2500}, 3)) == []
    assert "316.5" in notices(Job("EQRM", {"eqrm_burnin_iters": 316.5}, 3))[0]


def test_fish_is_saved_without_the_network_that_each_update_makes_anew():
    state = {"network.net.1.weight": 1, "network_inner.net.1.weight": 2}
    assert saved_state("Fish", state) == {"network.net.1.weight": 1}
    assert saved_state("ERM", state) == state


def test_a_failed_download_names_what_to_set():
    sentence = explain(Job("ERM", {"backbone": ""}, 3), OSError("no route to host"))
    assert "no route to host" in sentence
    assert "'pretrained' to false" in sentence
