"""From the job files of others to ensembles; whatever has no counterpart is named, with what it means and what to do.

:mod:`~dms.ensemble.translate.translation`  which format it is, and the translation as a whole
:mod:`~dms.ensemble.translate.compose`      Docker Compose; :mod:`~dms.ensemble.translate.interpolation`: its variables
                                            :mod:`~dms.ensemble.translate.compose_keys`: what has no counterpart
:mod:`~dms.ensemble.translate.kubernetes`   Kubernetes manifests; :mod:`~dms.ensemble.translate.pods`: what runs in them
:mod:`~dms.ensemble.translate.nomad`        Nomad job files; :mod:`~dms.ensemble.translate.nomad_json`: their JSON form
:mod:`~dms.ensemble.translate.hcl`          the language in which these are written
:mod:`~dms.ensemble.translate.source`       reading a part of a file, and noting what of it was not understood
:mod:`~dms.ensemble.translate.amounts`      sizes, processors and times as these formats write them
:mod:`~dms.ensemble.translate.files`        files that a workload is given, as scripts
:mod:`~dms.ensemble.translate.draft`        the ensemble that is being put together
"""
