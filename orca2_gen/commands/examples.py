"""One example for each command of `orca2`, at the end of its --help."""

EXAMPLES = {
    "demo": "orca2 demo",
    "doctor": "orca2 doctor ray_jobs/configs/llama2.toml",
    "evaluate": "orca2 evaluate CONFIG --model RUN/student",
    "export": "orca2 export RUN OUT --shape messages",
    "init": "orca2 init first.toml --models models --tasks data",
    "plan": "orca2 plan CONFIG --set student.replicas=4",
    "prepare": "orca2 prepare models/Llama-2-7b-hf models/student",
    "recover": "orca2 recover RUN --yes",
    "regrade": "orca2 regrade CONFIG --from RUN --set run_dir=runs/regraded",
    "report": "orca2 report RUN --out page.html",
    "run": "orca2 run ray_jobs/configs/llama2.toml --set run_dir=runs/one",
    "score": "orca2 score CONFIG",
    "status": "orca2 status RUN --watch",
    "submit": "orca2 submit CONFIG --address http://127.0.0.1:8265",
    "synthesise": "orca2 synthesise CONFIG TOPICS OUT",
    "tasks": "orca2 tasks data/gsm8k.jsonl --format jsonl",
    "teach": "orca2 teach CONFIG",
    "trace": "orca2 trace RUN gsm8k/train/17",
    "train": "orca2 train CONFIG --nproc-per-node 8",
    "verify": "orca2 verify RUN",
}
