"""An ensemble from two registered versions to predictions, over the platform, at a replica, and over gRPC."""

import grpc
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier

from modelops.domains.serving.schemas import DeploymentState
from modelops.runtime.serving.rpc import messages
from modelops.sdk.ensembles import ModelEnsemble
from modelops.sdk.registry import ModelRegistry
from modelops.testing.process import platform_process
from modelops.testing.waiting import wait_for

ROWS = np.array([[n, n % 3] for n in range(60)], dtype=float)
LABELS = np.array(["low", "middle", "high"])[np.digitize(ROWS[:, 0], [20, 40])]


@pytest.mark.slow
def test_an_ensemble_is_deployed_like_any_version(tmp_path):
    with platform_process(tmp_path / "home", controller_interval_s="0.1") as platform:
        with platform.client() as client, ModelRegistry(client) as registry:
            models = [LogisticRegression(max_iter=1000), DecisionTreeClassifier(max_depth=1)]
            for name, model in zip(("line", "stump"), models, strict=True):
                registry.register_model(name, model.fit(ROWS, LABELS), sample=ROWS)
            command = [
                "models",
                "register-ensemble",
                "both",
                "--member",
                "line:1",
                "--member",
                "stump",
                "--weight",
                "1",
            ]
            platform.mops(*command, "--weight", "3")
            platform.mops("deployments", "create-deployment", "live", "both:1", "--limit", "grpc=true")
            wait_for(lambda: client.serving.get_deployment("live").state is DeploymentState.READY)
            wanted = ModelEnsemble(["line", "stump"], weights=[1, 3], backend=registry)

            said = client.serving.predict("live", ROWS.tolist())
            assert said.predictions == wanted.predict(ROWS).tolist()
            np.testing.assert_allclose(said.probabilities, wanted.predict_proba(ROWS))

            (replica,) = client.serving.get_deployment("live").replica_status
            token = client.identity.issue_token(permissions=["deployments.predict"]).access_token
            request = messages.MESSAGES["ModelInferRequest"](model_name="both", raw_input_contents=[ROWS.tobytes()])
            request.inputs.add(name="input", datatype="FP64", shape=ROWS.shape)
            with grpc.insecure_channel(replica.grpc_endpoint) as channel:
                infer = channel.unary_unary(
                    f"/{messages.SERVICE}/ModelInfer",
                    request_serializer=lambda message: message.SerializeToString(),
                    response_deserializer=messages.MESSAGES["ModelInferResponse"].FromString,
                )
                answer = infer(request, metadata=[("authorization", f"Bearer {token}")], timeout=30)
            shares = np.frombuffer(answer.raw_output_contents[1]).reshape(answer.outputs[1].shape)
            np.testing.assert_allclose(shares, said.probabilities)
