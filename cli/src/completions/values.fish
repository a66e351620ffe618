
# Chains, URLs and options of listeners, which the command itself knows.
function __resay_values
    set -l words (commandline -opc)
    # It may have gone from PATH; fish complains of that itself.
    command -q -- $words[1]; or return
    # Of --option=value, fish completes the value only.
    $words[1] completions fish --line "$(commandline -cp)" 2>/dev/null | string replace -r -- '^--[^=]*=' ''
end
complete -c resay -n "not __fish_resay_needs_command" -a "(__resay_values)"
