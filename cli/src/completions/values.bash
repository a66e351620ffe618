
# Chains, URLs and options of listeners, which the command itself knows; everything else as above. Readline replaces
# only what follows the last character that breaks words, such as a colon, unless that is in quotes.
_resay_values() {
    local cur=${2#[\'\"]} word candidate
    local -a found
    mapfile -t found < <("${COMP_WORDS[0]/#\~/$HOME}" completions bash --line "${COMP_LINE:0:COMP_POINT}" 2>/dev/null)
    if (( ${#found[@]} < 2 )); then
        _resay "$@"
        return
    fi
    word=${found[0]}
    COMPREPLY=()
    for candidate in "${found[@]:1}"; do
        COMPREPLY+=("${candidate#"${word%"$cur"}"}")
    done
    if (( ${#COMPREPLY[@]} == 1 )) && [[ $candidate == *[:=/] ]]; then
        compopt -o nospace
    fi
}
