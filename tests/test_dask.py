"""Hyper-parameters are searched on several machines by others: joblib on dask.distributed."""

import os

import pytest

from pycnn import datasets

pytest.importorskip("sklearn", reason="scikit-learn is in an extra: pip install '.[sklearn]'")
pytest.importorskip("distributed", reason="Dask is in an extra: pip install '.[dask]'")

import joblib
from distributed import Client, LocalCluster
from sklearn.model_selection import GridSearchCV

from pycnn.sklearn import CNNClassifier

# Of Dask's and tornado's sockets at the end, and of what they import.
pytestmark = pytest.mark.filterwarnings("default")


@pytest.mark.slow
def test_a_search_on_two_workers_finds_what_one_process_finds(tmp_path):
    train = datasets.load_mnist().train
    x, y = train.images[:300].reshape(300, 784), train.labels[:300]

    def search():
        classifier = CNNClassifier(image_shape=(28, 28, 1), epochs=1, random_state=0)
        return GridSearchCV(classifier, {"learning_rate": [1e-5, 3e-3]}, cv=2)

    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, local_directory=tmp_path
        ) as cluster,
        Client(cluster) as client,
    ):
        assert len(set(client.run(os.getpid).values())) == 2
        with joblib.parallel_backend("dask"):
            far = search().fit(x, y)
    near = search().fit(x, y)
    scores = far.cv_results_["mean_test_score"]
    assert scores.tolist() == near.cv_results_["mean_test_score"].tolist()
    assert scores[0] != scores[1]
    assert far.best_params_ == near.best_params_
    assert (far.predict_proba(x[:50]) == near.predict_proba(x[:50])).all()
