package reason

import "strings"

// Nearest returns the name that was probably meant by one that does not exist: at most a third of its letters are wrong, or it is
// how the name begins. It returns "" when none is near.
func Nearest(wrong string, names []string) string {
	best, distance := "", 1+len(wrong)/3
	for _, name := range names {
		d := editDistance(strings.ToLower(wrong), name)
		if wrong != "" && strings.HasPrefix(name, wrong) {
			d = 0
		}
		if d < distance || d == distance && name < best {
			best, distance = name, d
		}
	}
	return best
}

// editDistance counts the insertions, deletions and replacements of bytes that turn a into b.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
