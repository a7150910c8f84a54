"""Scores of logits, compared with scikit-learn's."""

import io

import numpy as np
import pytest
import scipy.special
import sklearn.metrics

from resnet_jax import evaluation
from resnet_jax.terminal import Terminal


def draws(examples=500, classes=10):
    random = np.random.default_rng(0)
    return random.normal(size=(examples, classes)).astype(np.float32) * 3, random.integers(0, classes, examples)


def test_loss_and_errors_equal_scikit_learns():
    logits, labels = draws()
    scores = evaluation.score(logits, labels)
    known = {"labels": range(10)}
    np.testing.assert_allclose(
        scores.loss, sklearn.metrics.log_loss(labels, scipy.special.softmax(logits.astype(float), axis=1), **known)
    )
    for k, error in ((1, scores.top1_error), (5, scores.top5_error)):
        np.testing.assert_allclose(1 - error, sklearn.metrics.top_k_accuracy_score(labels, logits, k=k, **known))


def test_the_first_of_equal_logits_is_the_answer():
    logits = np.zeros((10, 10))
    scores = evaluation.score(logits, np.arange(10))
    assert scores.top1_error == 0.9 == np.mean(logits.argmax(1) != np.arange(10))
    assert scores.top5_error == 0.5


def test_no_number_is_no_right_answer():
    scores = evaluation.score(np.full((4, 10), np.nan), np.zeros(4, int))
    assert (scores.top1_error, scores.top5_error) == (1, 1)
    assert np.isnan(scores.loss)
    [record] = evaluation.records([evaluation.Row("net", "plain-20", scores, 3.0)])
    assert record == {
        "name": "net",
        "net": "plain-20",
        "loss": None,
        "top1_error": 1.0,
        "top5_error": 1.0,
        "images_per_second": 3.0,
    }


def test_with_fewer_than_five_classes_the_five_highest_are_all():
    assert evaluation.score(np.eye(3), np.array([2, 0, 1])).top5_error == 0


def test_an_average_has_the_mean_of_the_probabilities():
    members = [draws()[0], draws()[0][::-1], 100 * draws()[0]]
    expected = np.mean([scipy.special.softmax(each.astype(float), axis=1) for each in members], axis=0)
    np.testing.assert_allclose(np.exp(evaluation.average(members)), expected, rtol=1e-6)
    np.testing.assert_allclose(np.exp(evaluation.average(members)).sum(axis=1), 1)


def test_an_ensemble_may_be_right_where_each_member_is_wrong():
    labels = np.array([0])
    members = [np.log([[0.4, 0.6, 1e-9]]), np.log([[0.4, 1e-9, 0.6]])]
    assert [evaluation.score(each, labels).top1_error for each in members] == [1, 1]
    assert evaluation.score(evaluation.average(members), labels).top1_error == 0


def test_a_class_that_no_member_thinks_possible_has_no_chance():
    assert evaluation.average([np.array([[0.0, -np.inf]])]).tolist() == [[0.0, -np.inf]]


@pytest.mark.parametrize("rate", [None, 1234.5])
def test_the_table_shows_per_cent(rate):
    row = evaluation.Row("net", "plain-20", evaluation.Scores(0.5, 0.0827, 0.0034), rate)
    console = Terminal(width=120, file=io.StringIO())
    console.print(evaluation.table([row], "title"))
    text = console.file.getvalue()
    assert "8.27%" in text
    assert "0.34%" in text
    assert ("1,234" in text) == (rate is not None)


@pytest.mark.parametrize("name", ["[/x]", "[red]w[/red]", "a[b"])
def test_names_are_shown_as_they_are(name):
    row = evaluation.Row(name, name, evaluation.Scores(0.5, 0.0827, 0.0034), None)
    console = Terminal(width=120, file=io.StringIO())
    console.print(evaluation.table([row], f"title {name}"))
    assert console.file.getvalue().count(name) == 3
