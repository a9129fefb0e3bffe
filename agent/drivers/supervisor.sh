#!/bin/sh
# Who waits for a raw_exec task while no agent does, and keeps its exit code?
#
#   supervisor.sh RUN CGROUP LIMITS DIR SETSID MV -- command args...
#
# RUN.pid   this supervisor, as its /proc stat line; created exclusively: the second of two starts of
#           the same attempt ends here with 75 and starts nothing
# RUN.task  the task, as its /proc stat line (pid and start time outlast the exec)
# RUN.exit  the exit code, whole or not there at all: written beside it and renamed
#
# The agent made RUN.task and RUN.exit.partial, full of blanks, before: written in place they need no room
# on a disk that has filled up since. Without room for RUN.pid nothing is started, and 74 says so.
#
# CGROUP is a cgroup.procs to join, or empty; LIMITS are others, a colon between two: a task whose cores or limits cannot
# be had is not run. 3 and 4 are the task's log files, opened by the agent; 5 is its environment, for the last of the
# command's programs to read (becoming.py): nothing here runs in it.
# The task runs in the foreground of this script: a background job would ignore SIGINT and SIGQUIT.
set -uC
run=$1 cgroup=$2 limits=$3 dir=$4 setsid=$5 mv=$6
shift 7
trap : HUP INT QUIT TERM
IFS= read -r stat </proc/self/stat
if ! true >"$run.pid"; then
    [ ! -e "$run.pid" ] || exit 75
    exit 74
fi
echo "$stat" >|"$run.pid" || {
    rm -f -- "$run.pid"
    exit 74
}
(
    exec >&3 2>&4 3>&- 4>&-
    [ -z "$cgroup" ] || echo 0 >|"$cgroup"
    while [ -n "$limits" ]; do
        echo 0 >|"${limits%%:*}" || exit 126
        case $limits in *:*) limits=${limits#*:} ;; *) limits= ;; esac
    done
    cd -- "$dir" || exit 126
    unset OLDPWD
    IFS= read -r stat </proc/self/stat
    echo "$stat" 1<>"$run.task" || exit 126
    exec "$setsid" -- "$@"
)
code=$?
echo "$code" 1<>"$run.exit.partial" && exec "$mv" -f -- "$run.exit.partial" "$run.exit"
