"""Any Python function of an installed package as a job with a session of Spark."""

from modelops.domains.training.recipes.python_function import PythonFunction
from modelops.domains.training.schemas import Engine


class SparkFunction(PythonFunction):
    """Calls a function as `python-function` does; `job.spark` and `job.spark_table()` give it Spark."""

    name = "spark-function"
    description = "Calls a function of an installed package with the job, and with a session of Spark."
    engine = Engine.SPARK


recipe = SparkFunction()
