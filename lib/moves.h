/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Figures are read one by one.  With no thread in a call nothing changes them
 * but the library's own thread, which goes on tidying up: what it takes out of
 * one sum and adds to another is in neither for a moment.  So it says when it
 * moves something, and who sums up looks whether it did.
 *
 *   who moves                    who sums up
 *   1  begun + 1                 1  reads ended
 *   2  what it moves             2  reads the figures
 *   3  ended + 1                 3  adds 0 to begun: is it what ended was?
 *
 * Guarantee: if it is, every move is in all of the figures or in none.  Those
 * that had ended are in all: 3 (release) -> 1 (acquire).  Any other begins
 * after step 3 of who sums up, as both are exchanges of one word; that one
 * (release) -> 1 of the move (acquire), so nothing of it was read.
 *
 * Wait-free; who looks again may do so for as long as others move.  Nothing is
 * on its way at a fork, which waits for that thread.
 */
#ifndef SEG_MOVES_H
#define SEG_MOVES_H

#include "atomic.h"

struct moves {
	struct atomic_u32 begun, ended;
};

/* Between these, others may find sums that do not fit together. */
static inline void moves_begin(struct moves *m)
{
	/* seq_cst: acquire <- moves_none_since() */
	u32_add_seq_cst(&m->begun, 1);
}

static inline void moves_end(struct moves *m)
{
	/* seq_cst: release -> moves_ended() */
	u32_add_seq_cst(&m->ended, 1);
}

static inline uint32_t moves_ended(const struct moves *m)
{
	return u32_load_acquire(&m->ended); /* acquire <- moves_end() */
}

/* Whether none was on its way since `ended` was asked for. */
static inline bool moves_none_since(struct moves *m, uint32_t ended)
{
	/* seq_cst: release -> moves_begin() */
	return u32_add_seq_cst(&m->begun, 0) == ended;
}

#endif
