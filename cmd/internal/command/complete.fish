# Completion of PROGRAM in fish: PROGRAM completion fish | source, or put this into
# /usr/share/fish/vendor_completions.d/PROGRAM.fish.
function __PROGRAM_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l before (string match -r '^--[^=]*=' -- "$current")
    set -l lines ($words[1] __complete $words[2..] "$current" 2>/dev/null)
    switch "$lines[1]"
        case ':files*'
            __fish_complete_path (string replace -- "$before" '' "$current") | string replace -r '^' -- "$before"
        case ':folders*'
            __fish_complete_directories (string replace -- "$before" '' "$current") | string replace -r '^' -- "$before"
        case '?*'
            printf '%s\n' $lines
    end
end
complete -c PROGRAM -f -a '(__PROGRAM_complete)'
