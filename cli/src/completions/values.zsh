# Chains, URLs and options of listeners, which the command itself knows.
_resay_values() {
    local -a texts helps open_texts open_helps
    local text help
    while IFS=$'\t' read -r text help; do
        # Of --option=value, zsh completes the value only.
        text=${text#"$IPREFIX"}
        if [[ $text == *[:=/] ]]; then
            open_texts+=("$text")
            open_helps+=("$text${help:+  -- $help}")
        else
            texts+=("$text")
            helps+=("$text${help:+  -- $help}")
        fi
    done < <("${resay_words[1]/#\~/$HOME}" completions zsh --line "${(j: :)resay_words}" 2>/dev/null)
    if (( $#texts + $#open_texts == 0 )); then
        _default
        return
    fi
    (( $#open_texts )) && compadd -l -S '' -d open_helps -a open_texts
    (( $#texts )) && compadd -l -d helps -a texts
    return 0
}

