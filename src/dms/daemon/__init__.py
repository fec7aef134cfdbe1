"""The process around the service: signals, deadlines, and who watches over it.

:mod:`~dms.daemon.process`          runs the service until a signal, and stops it in order
:mod:`~dms.daemon.service_manager`  tells systemd how it goes, and that it still lives
:mod:`~dms.daemon.pid_file`         names the process to those who want to signal it
:mod:`~dms.daemon.errors`           what cannot be started or stopped
"""
