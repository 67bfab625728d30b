#compdef PROGRAM
# Completion of PROGRAM in zsh: source <(PROGRAM completion zsh), or put this into a folder of $fpath as _PROGRAM.
_PROGRAM() {
	local -a lines candidates
	local line
	lines=("${(@f)$("${(Q)words[1]/#\~/$HOME}" __complete "${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null)}")
	case $lines[1] in
	:files*) [[ $PREFIX == --*=* ]] && compset -P '*='; _files ;;
	:folders*) [[ $PREFIX == --*=* ]] && compset -P '*='; _files -/ ;;
	?*)
		for line in $lines; do
			line=${line//:/\\:}
			candidates+=("${line/$'\t'/:}")
		done
		_describe PROGRAM candidates
		;;
	esac
}
if [[ $funcstack[1] == _PROGRAM ]]; then
	_PROGRAM "$@"
elif (( $+functions[compdef] )); then
	compdef _PROGRAM PROGRAM
fi
