#!/bin/bash
# trtcollctl's help, manual page and completion say the same: every command and every option of --help stands in both others, and the
# completion works. Needs no daemon.
set -u
ctl=$TRTCOLL_TEST_CTL
manual=$TRTCOLL_TEST_SOURCE/client/man/trtcollctl.1
completion=$TRTCOLL_TEST_SOURCE/client/ctl/completion.bash
failures=0

fail()
{
    echo "FAILED: $*"
    failures=$((failures + 1))
}

expect() # what, found, wanted
{
    [[ $2 == "$3" ]] || fail "$1: found \"$2\", wanted \"$3\""
}

# What the manual calls it, without the macros' escapes.
manual_text=$(sed 's/\\-/-/g; s/\\f.//g' "$manual")
in_manual() { grep -qE -- "(^|[^a-z-])$1([^a-z-]|\$)" <<<"$manual_text"; }

help=$("$ctl" --help) || fail "--help exits with $?"
commands=$(sed -n '/^Looking/,/^Options/s/^  \([a-z][a-z-]*\) .*/\1/p' <<<"$help")
expect "number of commands" "$(wc -l <<<"$commands")" 18

options_of() { sed -n 's/^  \(-[a-zA-Z],\|   \) --\([a-z0-9-]*\).*/\2/p'; }
globals=$(sed -n '/^Options,/,$p' <<<"$help" | options_of)
expect "global options" "$(tr '\n' ' ' <<<"$globals")" "runtime-dir socket json watch timeout no-color help version "

# Loads the completion and asks it for the words behind a command line.
complete_words()
{
    bash -c 'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _trtcollctl; printf "%s\n" "${COMPREPLY[@]}"' - \
        "$completion" "$@" 2>/dev/null
}
completed_commands=$(complete_words "$ctl" "")
for command in $commands; do
    grep -qx -- "$command" <<<"$completed_commands" || fail "completion does not offer $command"
    grep -qE "^\.(B|BR|BI) \"?$command( |\$)" "$manual" || fail "the manual has no entry for $command"

    own=$("$ctl" "$command" --help) || fail "$command --help exits with $?"
    [[ $own == "usage: trtcollctl $command"* ]] || fail "$command --help starts with ${own%%$'\n'*}"
    expect "$command: the same text from help" "$("$ctl" help "$command")" "$own"
    offered=$(complete_words "$ctl" "$command" --)
    for option in $(sed -n '/^Options$/,/^Options of/p' <<<"$own" | options_of) $globals; do
        in_manual "--$option" || fail "the manual does not know --$option"
        grep -qx -- "--$option" <<<"$offered" || fail "completion of $command does not offer --$option"
    done
done
[[ -z $(complete_words "$ctl" nonsense "") ]] || fail "completion offers something behind an unknown command"
expect "completion of a value" "$(complete_words "$ctl" log-level w)" warning

expect "version" "$("$ctl" --version)" "$("$ctl" -V status)"
"$ctl" >/dev/null 2>&1
expect "exit code without a command" $? 2
for arguments in nonsense "status --nonsense" "status extra" kick "kick x" "groups --limit -1" "status --watch 0" "config --watch 1" \
    "log-level loud" "explain all-reduce 64" "explain all-reduce 64x7168 --dtype q4" "top --count 0" "dump --count 33" "latency --op walk" tune "tune FILE --watch 1"; do
    # shellcheck disable=SC2086
    "$ctl" $arguments >/dev/null 2>/tmp/trtcollctl-usage.$$
    expect "exit code of $arguments" $? 2
    [[ -s /tmp/trtcollctl-usage.$$ ]] || fail "$arguments: no complaint"
done
rm -f "/tmp/trtcollctl-usage.$$"

if command -v mandoc >/dev/null; then
    lint=$(mandoc -T lint -W warning "$manual")
    [[ -z $lint ]] || fail "mandoc: $lint"
fi
((failures == 0)) && echo "help, manual and completion agree"
exit $((failures != 0))
