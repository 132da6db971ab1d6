"""Places of the commands of `probe-builder`: `module:attribute` of each, loaded when it is run."""

ABOUT = "Aggregate missing probes on BigQuery and store their rows."
GROUPS = {
    "Build": {
        "run": "builder.commands.running:run_command",
        "night": "builder.commands.night:night_command",
        "failed": "builder.commands.dead_letters:failed_command",
        "retry": "builder.commands.dead_letters:retry_command",
        "sink-tables": "builder.commands.sinks:sink_tables_command",
    },
    "Try it": {
        "etl-demo": "builder.commands.etl_demo:etl_demo_command",
        "warehouse": "warehouse.cli:app",
    },
    "Look it up": {
        "reference": "builder.commands.reference:reference_command",
    },
}
