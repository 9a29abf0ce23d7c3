/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Counts instructions without any help of the processor's: this process is
 * traced by its parent, which lets it go step by step between two signals.
 * Only the thread that began is traced, so the others run as ever.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "scale.h"

enum { MARK = SIGUSR1 };

#ifdef __x86_64__
/* Elsewhere a step may break up a pair of load-linked and store-conditional,
 * which is then tried for ever. */
enum { CAN_STEP = true };
#else
enum { CAN_STEP = false };
#endif

/* Shared with the parent, which writes it. */
static struct {
	uint64_t steps;
	bool traced;
} *shared;

static void end_like(int status)
{
	if (WIFSIGNALED(status))
		raise(WTERMSIG(status));
	_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
}

/* A signal that is not for the parent goes on to the child. */
static void follow(pid_t child)
{
	bool stepping = false;
	int status, deliver;

	for (;;) {
		if (waitpid(child, &status, 0) != child)
			_exit(1);
		if (!WIFSTOPPED(status))
			end_like(status);
		deliver = WSTOPSIG(status);
		if (deliver == MARK) {
			stepping = !stepping;
			shared->steps = stepping ? 0 : shared->steps;
			deliver = 0;
		} else if (deliver == SIGTRAP || deliver == SIGSTOP) {
			shared->steps += stepping;
			deliver = 0;
		}
		ptrace(stepping ? PTRACE_SINGLESTEP : PTRACE_CONT, child, NULL,
		       (void *)(intptr_t)deliver);
	}
}

void steps_begin(void)
{
	pid_t child;

	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		die("mmap");
	child = CAN_STEP ? fork() : -1;
	if (child > 0)
		follow(child);
	if (child == 0 && !ptrace(PTRACE_TRACEME, 0, NULL, NULL)) {
		shared->traced = true;
		raise(SIGSTOP);
	}
}

static double count(run_fn *run, void *ctx, unsigned n)
{
	raise(MARK);
	run(ctx, n);
	raise(MARK);
	return (double)shared->steps;
}

/* What a run of none costs, and the signals, is in both. */
double steps_of(run_fn *run, void *ctx, unsigned n)
{
	double none;

	if (!shared->traced)
		return -1;
	none = count(run, ctx, 0);
	return (count(run, ctx, n) - none) / n;
}
