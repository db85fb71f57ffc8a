"""Run by itself: logs two versions of the registered model `seed` as a user would, into the URI given."""

import sys

import mlflow


class Constant(mlflow.pyfunc.PythonModel):
    """Answers one number for every row."""

    def __init__(self, answer: int) -> None:
        self.answer = answer

    def predict(self, context, model_input, params=None):
        return [self.answer] * len(model_input)


if __name__ == "__main__":
    mlflow.set_tracking_uri(sys.argv[1])
    for answer in (1, 2):
        with mlflow.start_run():
            mlflow.pyfunc.log_model(
                name="model", python_model=Constant(answer), registered_model_name="seed", pip_requirements=[]
            )
