"""Stage membership: whether the models' answers tell what they were trained on.

Two sets are attacked, each against the test set, which was never trained on: the samples that the
forget lists name (the attacks should recognise them before they are forgotten, and not afterwards) and the retained
ones (how much the models give away at all).
"""

from __future__ import annotations

from training.data.summary import read_summary
from training.evaluation.candidate import open_candidate
from training.evaluation.membership import attack, roc_curves
from training.evaluation.reports import Absent, ForgetLists, Membership
from training.evaluation.sets import answers_for_listed, answers_for_retained, answers_for_test
from training.files import csv_bytes, write_atomic
from training.stages.run import run
from training.workspace import Workspace


def membership(workspace: Workspace) -> None:
    """Raises DamagedError when a shard file or the candidate is missing or damaged, and what ``deal`` raises."""
    params, ensemble = workspace.read_params(), open_candidate(workspace)
    partition = read_summary(workspace.partition_file)
    lists = (partition.forgotten if params.forget.apply else partition.monitored).model_dump()
    non_members = answers_for_test(workspace, params, ensemble)
    retained = answers_for_retained(workspace, params, ensemble)
    listed = answers_for_listed(workspace, params, ensemble)
    report = Membership(
        list=ForgetLists(applied=params.forget.apply, **lists, pictures=0 if listed is None else len(listed.labels)),
        non_members=len(non_members.labels),
        forget=Absent(absent="the forget lists name no sample whose picture is still in the source")
        if listed is None
        else attack(listed, non_members, params.seed),
        training=attack(retained, non_members, params.seed),
    )
    write_atomic(workspace.report("membership.json"), report.to_bytes())
    rows = [
        (f"{name}: {curve}", f"{fpr:.6f}", f"{tpr:.6f}")
        for name, members in (("forget", listed), ("training", retained))
        if members is not None
        for curve, fpr, tpr in roc_curves(members, non_members)
    ]
    write_atomic(workspace.report("roc.csv"), csv_bytes(("attack", "fpr", "tpr"), rows))
    for name, judged in (("forget", report.forget), ("training", report.training)):
        if not isinstance(judged, Absent) and not isinstance(judged.ensemble_loss.auc, Absent):
            print(f"{name} against non-members: AUC {judged.ensemble_loss.auc:.3f} by the ensemble's loss")


if __name__ == "__main__":
    run(membership)
