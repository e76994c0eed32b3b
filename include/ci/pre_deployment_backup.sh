#!/usr/bin/env bash
set -Eeuo pipefail
export LC_ALL=C TZ=UTC

usage() {
    cat <<'TEXT'
Ask Airflow for a backup before a deployment, wait for it, and tell whether it is safe to deploy.

  pre_deployment_backup.sh --airflow-url URL --airflow-user NAME --release R --git-sha SHA [option ...]

With --rollback: put the backup that was taken before that release back in production's place, once another person has
said yes in Airflow (Browse > Required Actions), and wait for the end of it.

Every option can be given in the environment instead; the password only there.

  --airflow-url URL         AIRFLOW_URL       where Airflow answers; https, or http on this machine
  --airflow-user NAME       AIRFLOW_USER      who may see and trigger the DAG
                            AIRFLOW_PASSWORD  the user's password
  --airflow-cacert FILE     AIRFLOW_CACERT    certificates to trust instead of the system's
  --source NAME             SOURCE            source in the policy (pulse_messages)
  --release R               RELEASE           what will be deployed: up to 64 of A-Z a-z 0-9 . _ + -
  --git-sha SHA             GIT_SHA           its commit: 7 to 40 hexadecimal digits
  --wait-for-proof BOOL     WAIT_FOR_PROOF    wait until the backup was restored and compared (true)
  --deadline-seconds N      DEADLINE_SECONDS  give up after this long in all (3600)
  --max-age-seconds N       MAX_AGE_SECONDS   join a backup that ended at most this long ago (3600)
  --retry-seconds N         RETRY_SECONDS     how long Airflow may be out of reach or answer 5xx (600)
  --poll-seconds N          POLL_SECONDS      pause between two looks (5)
  --allow-http BOOL         ALLOW_HTTP        send the password over http to another machine (false)
  --rollback                                  restore the release's backup into production instead of taking one
  --reason TEXT         REASON            with --rollback: for who approves, and for the evidence
  --unproven BOOL       UNPROVEN          with --rollback: also a backup that nobody has proven (false)
  --dry-run                                   print what would be sent, send nothing
  --help

The run's id is made from release and commit: a second call joins the run that is under way or has just
succeeded; when that run failed or is too old, it starts the next attempt, -2, -3 and so on. A rollback that has
ended is never joined, since the release may have been deployed again: the next attempt asks for another yes.

Exit code
  0  safe to deploy; with --rollback: the backup is in production's place
  1  the backup failed, or did not end before the deadline; the rollback did so or was refused
  2  bad parameters
  3  Airflow is out of reach or refuses the login, or the DAG is paused, missing or broken
TEXT
}

declare -A defaults=(
    [AIRFLOW_URL]='' [AIRFLOW_USER]='' [AIRFLOW_CACERT]='' [SOURCE]=pulse_messages [RELEASE]='' [GIT_SHA]=''
    [WAIT_FOR_PROOF]=true [DEADLINE_SECONDS]=3600 [MAX_AGE_SECONDS]=3600 [RETRY_SECONDS]=600 [POLL_SECONDS]=5
    [ALLOW_HTTP]=false [REASON]='' [UNPROVEN]=false
)
dry_run=false rollback=false
aftermath='nothing was triggered'

say() { printf '%(%H:%M:%S)T %s\n' -1 "$*"; }

fail() { # exit code, message
    if [[ ${GITHUB_ACTIONS:-} == true ]]; then
        printf '::error title=pre-deployment backup::%s\n' "${2//%/%25}"
    else
        printf 'error: %s\n' "$2" >&2
    fi
    exit "$1"
}

# What others wrote can neither steer a terminal nor command the CI system with "##[x]" or a leading "::x::".
harmless() { tr -d '\000-\010\013-\037\177' | sed -e 's/##\[/## [/g' -e "s/^/${1:-}/"; }

read_options() {
    local name value
    while (($# > 0)); do
        name=${1%%=*} value=${1#*=}
        case $1 in
            --help) usage && exit 0 ;;
            --dry-run) dry_run=true && shift && continue ;;
            --rollback) rollback=true && shift && continue ;;
            --*=*) shift ;;
            *) value=${2:-} && shift $(($# > 1 ? 2 : 1)) ;;
        esac
        name=${name#--} name=${name//-/_}
        [[ $name =~ ^[a-z_]+$ && -v defaults[${name^^}] ]] || fail 2 'unknown option, see --help'
        printf -v "${name^^}" '%s' "$value"
    done
    for name in "${!defaults[@]}"; do
        printf -v "$name" '%s' "${!name:-${defaults[$name]}}"
    done
}

must_match() { # name, pattern, what is allowed
    [[ ${!1} =~ ^($2)$ ]] || fail 2 "$1 must be $3, not $(printf '%q' "${!1}")"
}

validate() {
    local name
    for name in curl jq; do
        command -v "$name" >/dev/null || fail 2 "$name is not installed"
    done
    [[ $AIRFLOW_URL != *@* ]] || fail 2 'AIRFLOW_URL must not hold a user or password'
    must_match AIRFLOW_URL 'https?://([A-Za-z0-9.-]+|\[[0-9a-fA-F:]+\])(:[0-9]{1,5})?(/[A-Za-z0-9._~/-]*)?' 'http(s)://host[:port][/path]'
    must_match SOURCE '[a-z][a-z0-9_]{0,62}' "the name of a source in the policy"
    must_match RELEASE '[A-Za-z0-9][A-Za-z0-9._+-]{0,63}' '1 to 64 of A-Z a-z 0-9 . _ + - beginning with a letter or digit'
    must_match GIT_SHA '[0-9a-f]{7,40}' '7 to 40 lower-case hexadecimal digits'
    must_match WAIT_FOR_PROOF 'true|false' 'true or false'
    must_match ALLOW_HTTP 'true|false' 'true or false'
    must_match UNPROVEN 'true|false' 'true or false'
    must_match REASON '[^[:cntrl:]]{0,500}' 'one line of at most 500 characters'
    must_match MAX_AGE_SECONDS '0|[1-9][0-9]{0,5}' 'seconds from 0 to 999999'
    for name in DEADLINE_SECONDS RETRY_SECONDS POLL_SECONDS; do
        must_match "$name" '[1-9][0-9]{0,5}' 'seconds from 1 to 999999'
    done
    if [[ $ALLOW_HTTP == false && ! $AIRFLOW_URL =~ ^(https://|http://(localhost|127\.[0-9.]+|\[::1\])(:|/|$)) ]]; then
        fail 2 "AIRFLOW_URL must begin with https://, or the password would be readable on its way (ALLOW_HTTP=true: closed network)"
    fi
    [[ -z $AIRFLOW_CACERT || -r $AIRFLOW_CACERT ]] || fail 2 "AIRFLOW_CACERT: cannot read $(printf '%q' "$AIRFLOW_CACERT")"
    AIRFLOW_URL=${AIRFLOW_URL%"${AIRFLOW_URL##*[!/]}"}
    $dry_run || [[ -n $AIRFLOW_USER && -n ${AIRFLOW_PASSWORD:-} ]] || fail 2 'AIRFLOW_USER and AIRFLOW_PASSWORD must be set'
}

name_run() {
    dag_id=$SOURCE.pre_deployment_backup
    dag_path=/api/v2/dags/$dag_id
    conf=$(jq -nc --arg release "$RELEASE" --arg git_sha "$GIT_SHA" --argjson wait_for_proof "$WAIT_FOR_PROOF" \
        '{release: $release, git_sha: $git_sha, wait_for_proof: $wait_for_proof}')
    local kind=pre_deployment label=$RELEASE
    # A run that stops at the upload does not answer for one that shall be proven.
    $WAIT_FOR_PROOF || kind=pre_deployment_unproven
    # Airflow refuses ".." in a run's id.
    [[ $label != *..* ]] || label=${label//./\~}
    if $rollback; then
        dag_id=$SOURCE.restore_database kind=rollback
        dag_path=/api/v2/dags/$dag_id
        conf=$(jq -nc --arg release "$RELEASE" --arg git_sha "$GIT_SHA" --arg reason "$REASON" --argjson unproven "$UNPROVEN" \
            '{choose: "release", release: $release, git_sha: $git_sha, where: "production", unproven: $unproven,
              end_sessions: true, dry_run: false, reason: $reason}')
    fi
    base_id=${kind}__${label}__${GIT_SHA}
}

use_run() { # run id
    run_id=$1
    run_path=$dag_path/dagRuns/$(jq -nr --arg id "$run_id" '$id | @uri')
    run_body=$(jq -nc --arg id "$run_id" --argjson conf "$conf" '{logical_date: null, dag_run_id: $id, conf: $conf}')
}

clamp() { printf '%d' $(($1 < $2 ? $2 : ($1 > $3 ? $3 : $1))); } # value, lowest, highest

send() { # method, path, body: one request; sets curl_exit and http_status
    # Body and token go through pipes, since every user of the machine can read arguments.
    local -a request=(
        curl -q --silent --show-error --proto '=http,https' --tlsv1.2 --connect-timeout 10
        --max-time "$(clamp $((deadline - SECONDS)) 5 30)" --request "$1" --output "$work/body"
        --write-out '%{http_code}' --header 'Accept: application/json' --header 'Content-Type: application/json'
    )
    [[ -z $AIRFLOW_CACERT ]] || request+=(--cacert "$AIRFLOW_CACERT")
    [[ -z ${3:-} ]] || request+=(--data-binary @-)
    : >"$work/body"
    curl_exit=0
    http_status=$(printf '%s' "${3:-}" |
        "${request[@]}" --header @<(printf '%s' "${token:+Authorization: Bearer $token}") "$AIRFLOW_URL$2" 2>"$work/curl") ||
        curl_exit=$?
}

reply() { jq -er "$1" "$work/body" 2>/dev/null | harmless; }

problem() { # one line
    if ((curl_exit != 0)); then
        head -n 1 "$work/curl"
    else
        printf 'HTTP %s: ' "$http_status"
        jq -er '.detail // empty | if type == "string" then . else tojson end' "$work/body" 2>/dev/null || head -c 200 "$work/body"
    fi | harmless | tr -s '\n ' ' ' | sed 's/ $//'
}

exchange() { # method, path, body: send until there is an answer; false when none came in time
    local give_up=$((SECONDS + RETRY_SECONDS)) pause=1 told=false
    while :; do
        send "$@"
        case $curl_exit in
            0) [[ $http_status =~ ^(429|5..)$ ]] || return 0 ;;
            1 | 3 | 51 | 58 | 59 | 60 | 66 | 77 | 83 | 90 | 91) return 1 ;; # no retry mends an address or a certificate
        esac
        ((SECONDS + pause < give_up && SECONDS + pause < deadline)) || return 1
        $told || say "Airflow: $(problem); trying again"
        told=true
        sleep "$pause"
        pause=$((pause < 8 ? pause * 2 : 8))
    done
}

unreachable() { fail 3 "Airflow at $AIRFLOW_URL is out of reach: $(problem); $aftermath"; }

not_airflow() { fail 3 "$AIRFLOW_URL does not answer as Airflow's API does: $(problem); $aftermath"; }

log_in() {
    token=
    exchange POST /auth/token "$(jq -nc --arg username "$AIRFLOW_USER" '{username: $username, password: env.AIRFLOW_PASSWORD}')" ||
        unreachable
    [[ $http_status == 201 ]] || fail 3 "Airflow at $AIRFLOW_URL refuses the login of $AIRFLOW_USER: $(problem)"
    token=$(reply .access_token) || not_airflow
}

call() { # method, path, body: exchange with a token that is valid
    exchange "$@" || unreachable
    if [[ $http_status == 401 ]]; then
        say 'Airflow: the token is no longer valid, logging in again'
        log_in
        exchange "$@" || unreachable
    fi
    [[ ! $http_status =~ ^40[13]$ ]] || fail 3 "Airflow does not let $AIRFLOW_USER do $1 $2: $(problem); $aftermath"
}

require_dag() {
    call GET "$dag_path"
    local condition=missing
    [[ $http_status == 404 ]] || condition=$(reply 'if .is_paused == null then empty elif .has_import_errors then "broken"
        elif .is_stale then "stale" elif .is_paused then "paused" else "ready" end') || not_airflow
    case $condition in
        ready) ;;
        paused) fail 3 "DAG $dag_id is paused and nothing would run: \"airflow dags unpause $dag_id\", then try again" ;;
        *)
            show_import_errors
            fail 3 "DAG $dag_id is $condition: mend the import errors above, if any; else look at the policy's sources and the DAG processor"
            ;;
    esac
}

show_import_errors() {
    call GET '/api/v2/importErrors?limit=20'
    say 'import errors in Airflow:'
    jq -er '.import_errors[] | "\(.filename):", (.stack_trace | split("\n") | map(select(. != ""))[-12:][])' "$work/body" 2>/dev/null |
        harmless '| ' || printf '| none\n'
}

choose_run() {
    local attempt verdict
    for ((attempt = 1; attempt <= 99; attempt++)); do
        use_run "$base_id$( ((attempt == 1)) || printf -- '-%d' "$attempt")"
        call GET "$run_path"
        if [[ $http_status == 404 ]]; then
            trigger
            return
        fi
        verdict=$(jq -er --argjson conf "$conf" --argjson age "$MAX_AGE_SECONDS" --argjson rollback "$rollback" '
            if .state == "failed" then "failed"
            elif (.conf | with_entries(select(.key as $key | $conf | has($key)))) != $conf then "has other parameters"
            elif .state != "success" then "join"
            elif $rollback then "succeeded before this call"
            elif now - (.end_date | sub("([.][0-9]+)?(Z|[+]00:00)$"; "Z") | fromdateiso8601) >= $age then "is too old"
            else "join" end' "$work/body" 2>/dev/null) || not_airflow
        [[ $verdict != join ]] || break
        say "run $run_id $verdict: next attempt"
    done
    [[ $verdict == join ]] || fail 3 "$base_id has 99 runs; trigger $dag_id in Airflow by hand"
    say "joining run $run_id"
}

trigger() {
    call POST "$dag_path/dagRuns" "$run_body"
    case $http_status in
        200) say "triggered run $run_id" ;;
        409) say "joining run $run_id, which was triggered just now" ;;
        400 | 422)
            [[ ! $(problem) =~ has\ import\ errors|not\ allow\ manual\ runs ]] || fail 3 "DAG $dag_id is broken: $(problem)"
            fail 2 "Airflow refuses the parameters: $(problem)"
            ;;
        *) not_airflow ;;
    esac
}

follow() {
    aftermath="run $run_id may go on; a second call joins it"
    ! $rollback || aftermath+=' until it has ended'
    while :; do
        call GET "$run_path"
        [[ $http_status != 404 ]] || fail 3 "run $run_id of $dag_id is gone from Airflow"
        run_state=$(reply .state) || not_airflow
        show_tasks
        [[ ! $run_state =~ ^(success|failed)$ ]] || return 0
        call GET "$dag_path"
        [[ $(reply '.is_paused | tostring') != true ]] || fail 3 "DAG $dag_id was paused meanwhile: unpause it; $aftermath"
        ((SECONDS < deadline)) || return 0
        sleep "$(clamp $((deadline - SECONDS)) 1 "$POLL_SECONDS")"
    done
}

declare -A shown=()
show_tasks() {
    local name state RETRY_SECONDS=10
    exchange GET "$run_path/taskInstances?limit=100" && [[ $http_status == 200 ]] || return 0
    jq -ce '.task_instances | sort_by(.start_date // "9", .task_id)' "$work/body" >"$work/tasks" 2>/dev/null || return 0
    jq -r '.[] | [.task_id + (if .map_index < 0 then "" else "[\(.map_index)]" end),
        (.state // "none") + (if (.try_number // 0) > 1 then ", try \(.try_number)" else "" end)] | @tsv' "$work/tasks" >"$work/rows"
    while IFS=$'\t' read -r name state; do
        [[ ${shown["$name"]:-none} != "$state" ]] || continue
        say "$name: $state"
        [[ $name != approve || $state != awaiting_input* ]] ||
            say "another person has to say yes: $AIRFLOW_URL/required_actions (run $run_id of $dag_id)"
        shown["$name"]=$state
    done <"$work/rows"
}

show_logs() {
    local title path RETRY_SECONDS=5 deadline=$((SECONDS + 60))
    [[ -s $work/tasks ]] || return 0
    jq -r '.[] | . as $task | range(1; (.try_number // 0) + 1)
        | [if . < $task.try_number then "\($task.task_id), try \(.): tried again"
           else "\($task.task_id), try \(.): \($task.state // "none"), \($task.duration // 0 | floor) s" end,
           "\($task.task_id | @uri)/logs/\(.)?full_content=true&map_index=\($task.map_index)"] | @tsv' "$work/tasks" >"$work/rows"
    while IFS=$'\t' read -r title path; do
        printf '::group::%s\n' "$title"
        if ((SECONDS < deadline)) && exchange GET "$run_path/taskInstances/$path" && [[ $http_status == 200 ]]; then
            # Airflow's own groups would end ours.
            jq -r '[.content[] | if type == "string" then . elif .timestamp then "\(.timestamp[11:19]) \(.level // "") \(.event)",
                    ((.error_detail // [])[] | "\(.exc_type): \(.exc_value)") else empty end
                    | select(test("^\\S* \\S* ::(end)?group::") | not)]
                | if length > 1000 then "\(length - 1000) earlier messages are in Airflow" else empty end, .[-1000:][]' \
                "$work/body" 2>/dev/null |
                harmless '| ' || printf '| this log is not readable\n'
        else
            printf '| this log is out of reach: %s\n' "$(problem)"
        fi
        printf '::endgroup::\n'
    done <"$work/rows"
}

tell() {
    local failed
    ! $rollback || { tell_of_rollback && return; }
    case $run_state in
        success)
            $WAIT_FOR_PROOF || say 'the backup is stored and verified, its restore not yet proven'
            say "safe to deploy $RELEASE ($GIT_SHA): run $run_id succeeded"
            ;;
        failed)
            failed=$(jq -r '[.[] | select(.state == "failed") | .task_id] | join(", ")' "$work/tasks") || failed=unknown
            fail 1 "NOT safe to deploy $RELEASE: run $run_id failed in $failed; see the log above"
            ;;
        queued) fail 3 "run $run_id did not start in $DEADLINE_SECONDS s: look at the scheduler and at other runs; $aftermath" ;;
        *) fail 1 "NOT safe to deploy $RELEASE: the deadline of $DEADLINE_SECONDS s passed while the backup ran; $aftermath" ;;
    esac
}

tell_of_rollback() {
    local failed
    case $run_state in
        success) say "rolled back: the backup from before $RELEASE ($GIT_SHA) is in production's place, by run $run_id" ;;
        failed)
            failed=$(jq -r '[.[] | select(.state == "failed") | .task_id] | join(", ")' "$work/tasks") || failed=unknown
            fail 1 "NOT rolled back: run $run_id failed in $failed; see the log above"
            ;;
        *) fail 1 "NOT rolled back: the deadline of $DEADLINE_SECONDS s passed (a yes may be missing); $aftermath" ;;
    esac
}

main() {
    read_options "$@"
    validate
    name_run
    use_run "$base_id"
    if $dry_run; then
        printf 'POST %s%s/dagRuns\n%s\n' "$AIRFLOW_URL" "$dag_path" "$run_body"
        return
    fi
    deadline=$((SECONDS + DEADLINE_SECONDS)) token=''
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    trap 'fail 3 "unexpected failure in line $LINENO; $aftermath"' ERR
    trap 'fail 1 "stopped by a signal; $aftermath"' INT TERM HUP
    log_in
    require_dag
    choose_run
    follow
    show_logs
    tell
}

main "$@"
