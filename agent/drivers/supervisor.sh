#!/bin/sh
# Who waits for a raw_exec task while no agent does, and keeps its exit code?
#
#   supervisor.sh RUN CGROUP LIMITS DIR STDOUT STDERR SETSID MV -- command args...
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
# be had is not run. The task's environment is this one's; names that a shell cannot hold come in DROVER_ODD_1,
# DROVER_ODD_2 ... as NAME=value.
# The task runs in the foreground of this script: a background job would ignore SIGINT and SIGQUIT.
set -uC
run=$1 cgroup=$2 limits=$3 dir=$4 out=$5 err=$6 setsid=$7 mv=$8
shift 9
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
    exec >>"$out" 2>>"$err"
    [ -z "$cgroup" ] || echo 0 >|"$cgroup"
    while [ -n "$limits" ]; do
        echo 0 >|"${limits%%:*}" || exit 126
        case $limits in *:*) limits=${limits#*:} ;; *) limits= ;; esac
    done
    cd -- "$dir" || exit 126
    unset OLDPWD
    IFS= read -r stat </proc/self/stat
    echo "$stat" 1<>"$run.task" || exit 126
    if [ -n "${DROVER_ODD_1+x}" ]; then
        odd=1
        while eval "[ -n \"\${DROVER_ODD_$odd+x}\" ]"; do
            eval "set -- \"\$DROVER_ODD_$odd\" \"\$@\""
            unset "DROVER_ODD_$odd"
            odd=$((odd + 1))
        done
        set -- /usr/bin/env "$@"
    fi
    exec "$setsid" -- "$@"
)
code=$?
unset LD_PRELOAD LD_LIBRARY_PATH
echo "$code" 1<>"$run.exit.partial" && exec "$mv" -f -- "$run.exit.partial" "$run.exit"
