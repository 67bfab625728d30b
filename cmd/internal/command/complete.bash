# Completion of PROGRAM in bash: source <(PROGRAM completion bash), or put this into
# /usr/share/bash-completion/completions/PROGRAM.
_PROGRAM() {
	local words=() candidates=() lines line word i current=$2 width=0

	# Bash takes --flag=value for three words. What it calls the current word is the part after the last break.
	for ((i = 1; i <= COMP_CWORD; i++)); do
		word=${COMP_WORDS[i]}
		((i < COMP_CWORD)) || [[ $word == [=:] ]] || word=$current # without what is after the cursor
		if ((${#words[@]})) && [[ $word == [=:]* || ${COMP_WORDS[i - 1]} == [=:] ]]; then
			words[-1]+=$word
		else
			words+=("$word")
		fi
	done
	[[ ${COMP_WORDS[COMP_CWORD]} == [=:] ]] && current=

	COMPREPLY=()
	mapfile -t lines < <("${1/#\~/$HOME}" __complete "${words[@]}" 2>/dev/null)
	case ${lines[0]-} in
	:files*) compopt -o default 2>/dev/null && return ;;
	:folders*) compopt -o dirnames 2>/dev/null && return ;;
	esac

	word=${words[-1]}
	for line in "${lines[@]}"; do
		line=${line#"${word%"$current"}"}
		candidates+=("$line")
		line=${line%%$'\t'*}
		((${#line} > width)) && width=${#line}
	done
	for line in "${candidates[@]}"; do
		# A list for people (type ?) has the meanings, too.
		if ((${#candidates[@]} > 1)) && [[ $COMP_TYPE == 63 && -n ${line#*$'\t'} ]]; then
			printf -v line '%-*s  (%s)' "$width" "${line%%$'\t'*}" "${line#*$'\t'}"
			line=${line:0:${COLUMNS:-80}-1}
		fi
		COMPREPLY+=("${line%%$'\t'*}")
	done
}
complete -F _PROGRAM PROGRAM
