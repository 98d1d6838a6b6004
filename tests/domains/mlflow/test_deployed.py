"""The whole way in real processes: logged and registered by MLflow's client, approved, deployed and asked natively."""

import os
import subprocess
import sys

import numpy as np
import pytest

from modelops.testing.process import platform_process

SCRIPT = """
import mlflow, numpy as np
from sklearn.linear_model import LogisticRegression
rows = np.array([[n, n % 3] for n in range(40)], dtype=float)
mlflow.set_experiment("trials")
with mlflow.start_run():
    model = LogisticRegression(max_iter=1000).fit(rows, [n % 2 for n in range(40)])
    mlflow.sklearn.log_model(
        model, name="m", input_example=rows[:3], registered_model_name="numbers", pip_requirements=["scikit-learn"]
    )
mlflow.MlflowClient().transition_model_version_stage("numbers", "1", "Staging")
print(model.predict(rows[:5]).tolist())
"""


@pytest.mark.slow
def test_a_version_of_mlflow_is_approved_deployed_and_answers(tmp_path):
    with platform_process(tmp_path / "home", controller_interval_s="0.1") as platform, platform.client() as admin:
        token = admin.identity.create_api_key("mlflow").secret
        environment = {**os.environ, "MLFLOW_TRACKING_URI": platform.url, "MLFLOW_TRACKING_TOKEN": token}
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", SCRIPT], env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        expected = done.stdout.strip().splitlines()[-1]
        asked = admin.models.request_approval("numbers", 1)
        admin.identity.create_service_account("reviewer", role="ml_engineer")
        key = admin.identity.create_api_key("k", principal="reviewer").secret
        with platform.client(token=key) as reviewer:
            reviewer.models.decide_approval(asked.id, approve=True)
        environment["PYTHONWARNINGS"] = "ignore"
        promote = "import mlflow; mlflow.MlflowClient().transition_model_version_stage('numbers', '1', 'Production')"
        subprocess.run([sys.executable, "-c", promote], env=environment, check=True, capture_output=True)
        admin.serving.create_deployment("live", "numbers@champion")
        admin.serving.wait_until_settled("live", timeout_s=120)
        rows = np.array([[n, n % 3] for n in range(5)], dtype=float).tolist()
        assert str([int(value) for value in admin.serving.predict("live", rows).predictions]) == expected
