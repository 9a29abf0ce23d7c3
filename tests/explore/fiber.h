/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Stacks to run on: a switch of a few instructions on x86-64, ucontext
 * elsewhere (or with -DFIBER_UCONTEXT).
 */
#ifndef FIBER_H
#define FIBER_H

#include <stddef.h>

#if !defined(__x86_64__) && !defined(FIBER_UCONTEXT)
#define FIBER_UCONTEXT
#endif

#ifdef FIBER_UCONTEXT
#include <ucontext.h>
#endif

enum { FIBER_STACK_BYTES = 64 * 1024 };

struct fiber {
#ifdef FIBER_UCONTEXT
	ucontext_t context;
#else
	void *stack_pointer;
#endif
};

/* Makes it begin with main(), which never returns, at the next switch to it. */
void fiber_start(struct fiber *f, void *stack, void (*main)(void));

/* Saves this one in from and goes on with to. */
void fiber_switch(struct fiber *from, struct fiber *to);

#endif
