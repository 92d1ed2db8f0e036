//go:build race

package tcp

// raceEnabled: the race detector makes sync.Pool forget at random and
// everything several times slower.
const raceEnabled = true
