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

// editDistance counts the insertions, deletions, replacements of bytes, and swaps of neighbours, that turn a into b.
func editDistance(a, b string) int {
	before, last := make([]int, len(b)+1), make([]int, len(b)+1) // the rows of the table above this one
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		row := make([]int, len(b)+1)
		row[0] = i + 1
		for j := range len(b) {
			row[j+1] = last[j]
			if a[i] != b[j] {
				row[j+1] = 1 + min(last[j], last[j+1], row[j])
			}
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}
