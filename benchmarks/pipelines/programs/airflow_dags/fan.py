"""Airflow's fan-out: a DAG of 100 mapped tasks that do nothing, and one that takes what they return."""

from airflow.sdk import dag, task

WIDTH = 100


@dag(schedule=None, catchup=False, max_active_tasks=WIDTH)
def fan():
    @task
    def numbers():
        return list(range(WIDTH))

    @task
    def nothing(number: int):
        return number

    @task
    def total(numbers):
        assert sum(numbers) == sum(range(WIDTH))

    total(nothing.expand(number=numbers()))


fan()
