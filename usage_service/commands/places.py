"""Places of the commands of `usage-service`: `module:attribute` of each, loaded when it is run."""

ABOUT = "Which probes of GLAM are viewed, and how people work with them."
GROUPS = {
    "Run it": {
        "up": "usage_service.commands.up:up_command",
        "serve": "usage_service.commands.serving:serve_command",
        "migrate": "usage_service.commands.migrating:migrate_command",
        "doctor": "usage_service.commands.doctor:doctor_command",
        "token": "usage_service.commands.tokens:token_app",
    },
    "Ask it": {
        "popular": "usage_service.commands.popular:popular_command",
        "unused": "usage_service.commands.unused:unused_command",
        "sessions": "usage_service.commands.sessions:sessions_command",
        "releases": "usage_service.commands.releases:releases_app",
        "report": "usage_service.commands.report:report_command",
        "replay": "usage_service.commands.replaying:replay_command",
    },
    "Choose what to build": {
        "hotlist": "usage_service.commands.hotlist:hotlist_app",
        "backtest": "usage_service.commands.backtest:backtest_command",
        "experiment": "usage_service.commands.experiment:experiment_command",
        "sample-traffic": "usage_service.commands.backtest:sample_traffic_command",
    },
    "Keep the log": {
        "import": "usage_service.commands.importing:import_command",
        "export": "usage_service.commands.exporting:export_command",
        "mirror": "usage_service.commands.mirror:mirror_app",
        "retention": "usage_service.commands.retention:retention_app",
        "projections": "usage_service.commands.projections:projections_app",
        "verify": "usage_service.commands.projections:verify_command",
        "reference": "usage_service.commands.reference:reference_command",
    },
}
