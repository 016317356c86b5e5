# Completion of trtcollctl for bash. Installed as bash-completion/completions/trtcollctl; a test compares it with --help.

# Offers those lines of the input that begin with $1. Group names are chosen by clients: nothing may expand them, so no compgen here, and
# quotes where a name needs them.
_trtcollctl_offer()
{
    local line

    while IFS= read -r line; do
        [[ -n $line && $line == "$1"* ]] && COMPREPLY+=("$(printf '%q' "$line")")
    done
}

_trtcollctl()
{
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}
    local commands="status health groups clients memory top latency dump fields doctor explain config drain undrain reload kick log-level tune help"
    local options="--runtime-dir --socket --json --watch --timeout --no-color --help --version"
    local command="" where=() words="" i
    COMPREPLY=()

    # The command, and where the user says that the daemon is.
    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${COMP_WORDS[i]} in
        -r | --runtime-dir | -s | --socket)
            where+=("${COMP_WORDS[i]}" "${COMP_WORDS[i+1]}")
            ((i++)) ;;
        -w | --watch | -t | --timeout) ((i++)) ;;
        -*) ;;
        *) command=${command:-${COMP_WORDS[i]}} ;;
        esac
    done

    case $prev in
    -r | --runtime-dir)
        compopt -o dirnames 2>/dev/null
        return ;;
    -s | --socket | --daemon)
        compopt -o default 2>/dev/null
        return ;;
    --lane) words="direct served" ;;
    --op) words="all-reduce all-gather reduce-scatter all-to-all broadcast barrier ub-finalize" ;;
    --dtype | -d) words="fp32 fp16 bf16 fp64 int8 uint8 int32 uint32 int64 uint64 fp8-e4m3 bool" ;;
    --fusion | -f)
        words="none residual-rms-norm residual-rms-norm-quant-fp8 residual-rms-norm-quant-nvfp4"
        words+=" residual-rms-norm-out-quant-fp8 residual-rms-norm-out-quant-nvfp4" ;;
    --strategy) words="auto nccl nccl-symmetric min-latency oneshot twoshot mnnvl symm-mem ub" ;;
    --redop) words="sum min max prod avg" ;;
    --group | -g)
        _trtcollctl_offer "$cur" < <("${COMP_WORDS[0]}" "${where[@]}" groups --names 2>/dev/null)
        return ;;
    -w | --watch | -t | --timeout | --limit | -l | --count | --interval | -i | --ranks | --max-tokens | --eps | --sizes | --root | --wait | --replays)
        # "dump --ranks" is a switch; everywhere else these take a number
        [[ $command == dump && $prev == --ranks ]] || return ;;
    esac
    if [[ -n $words ]]; then
        _trtcollctl_offer "$cur" <<<"${words// /$'\n'}"
        return
    fi

    if [[ $cur == -* ]]; then
        case $command in
        groups) options+=" --names --limit" ;;
        clients) options+=" --ids --limit" ;;
        memory) options+=" --limit" ;;
        top) options+=" --batch --count --interval --limit" ;;
        latency) options+=" --op --lane --chart" ;;
        dump) options+=" --count --ranks --lane" ;;
        fields) options+=" --rows" ;;
        explain)
            options+=" --group --ranks --dtype --fusion --strategy --lane --redop --max-tokens --eps --sizes --root --bias --acc-fp32 --graph" ;;
        drain) options+=" --wait" ;;
        tune) options+=" --ranks --sizes --replays --daemon" ;;
        esac
        _trtcollctl_offer "$cur" <<<"${options// /$'\n'}"
        return
    fi

    case $command in
    "" | help) words=$commands ;;
    groups | dump)
        _trtcollctl_offer "$cur" < <("${COMP_WORDS[0]}" "${where[@]}" groups --names 2>/dev/null)
        return ;;
    kick)
        _trtcollctl_offer "$cur" < <("${COMP_WORDS[0]}" "${where[@]}" clients --ids 2>/dev/null)
        return ;;
    tune)
        compopt -o default 2>/dev/null
        return ;;
    log-level) words="err warning notice info debug" ;;
    fields) words="daemon device client group member latency record communicator" ;;
    explain) words="all-reduce all-gather reduce-scatter all-to-all broadcast barrier ub-finalize" ;;
    esac
    _trtcollctl_offer "$cur" <<<"${words// /$'\n'}"
}

complete -F _trtcollctl trtcollctl
