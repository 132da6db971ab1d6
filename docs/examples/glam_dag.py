"""A DAG that has the probes of the hot list built every night, and two operators that it is made of; for Airflow 3."""

from datetime import UTC, datetime

from airflow.sdk import DAG, BaseOperator, BaseSensorOperator, Context, PokeReturnValue, task
from glam_usage import ask_for_night, check, night_is_over


class AskForNight(BaseOperator):
    """Ask for the night that builds what is hot, and return its id; a second try asks for the same."""

    template_fields = ("run",)

    def __init__(
        self, *, product: str, channel: str, budget: int = 500, run: str = "{{ run_id }}", **options: object
    ) -> None:
        super().__init__(**options)
        self.product, self.channel, self.budget, self.run = product, channel, budget, run

    def execute(self, context: Context) -> str:
        """Return the id of the night."""
        return ask_for_night(self.run, self.product, self.channel, self.budget)["night_id"]


class NightSensor(BaseSensorOperator):
    """Wait until a night is over, and return it; between two looks it takes no worker's place."""

    template_fields = ("night_id",)

    def __init__(self, *, night_id: str, mode: str = "reschedule", **options: object) -> None:
        super().__init__(mode=mode, **options)
        self.night_id = night_id

    def poke(self, context: Context) -> PokeReturnValue:
        """Tell whether the night is over."""
        night = night_is_over(self.night_id)
        return PokeReturnValue(is_done=night is not None, xcom_value=night)


@task
def judge(night: dict) -> None:
    """Fail when too many probes failed."""
    check(night, most_failed=10)


with DAG("glam_fog", schedule="0 3 * * *", start_date=datetime(2026, 11, 1, tzinfo=UTC), catchup=False):
    begin = AskForNight(task_id="begin", product="fog", channel="nightly", retries=3)
    wait = NightSensor(task_id="wait", night_id=begin.output, poke_interval=60, timeout=6 * 3600, retries=3)
    judge(wait.output)
