/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "fiber.h"

#include <stdint.h>
#include <string.h>

#ifdef FIBER_UCONTEXT

void fiber_start(struct fiber *f, void *stack, void (*main)(void))
{
	getcontext(&f->context);
	f->context.uc_stack.ss_sp = stack;
	f->context.uc_stack.ss_size = FIBER_STACK_BYTES;
	f->context.uc_link = NULL;
	makecontext(&f->context, main, 0);
}

void fiber_switch(struct fiber *from, struct fiber *to)
{
	swapcontext(&from->context, &to->context);
}

#else

void fiber_switch_stacks(void **save, void *to);

/* Keeps what the ABI says a callee keeps; the rest the compiler has saved. */
__asm__(".text\n"
	".globl fiber_switch_stacks\n"
	".type fiber_switch_stacks, @function\n"
	"fiber_switch_stacks:\n"
	"	push %rbp\n"
	"	push %rbx\n"
	"	push %r12\n"
	"	push %r13\n"
	"	push %r14\n"
	"	push %r15\n"
	"	mov %rsp, (%rdi)\n"
	"	mov %rsi, %rsp\n"
	"	pop %r15\n"
	"	pop %r14\n"
	"	pop %r13\n"
	"	pop %r12\n"
	"	pop %rbx\n"
	"	pop %rbp\n"
	"	ret\n"
	".size fiber_switch_stacks, . - fiber_switch_stacks\n");

/*
 * As if main had been called at the top and saved six registers: 16-aligned
 * but for the return address, which is never used.
 */
void fiber_start(struct fiber *f, void *stack, void (*main)(void))
{
	uintptr_t top = ((uintptr_t)stack + FIBER_STACK_BYTES) & ~(uintptr_t)15;
	void **frame = (void **)top - 8;

	memset(frame, 0, 8 * sizeof(*frame));
	frame[6] = (void *)(uintptr_t)main;
	f->stack_pointer = frame;
}

void fiber_switch(struct fiber *from, struct fiber *to)
{
	fiber_switch_stacks(&from->stack_pointer, to->stack_pointer);
}

#endif
