// Package expect holds dialogues with programs that talk to people: wait for a
// pattern, send a line. It works over any stream.
package expect
