    .section .rodata.images, "a", %progbits
    .global images
    .type images, %object
images:
    .incbin "../data/digits.bin"
    .size images, . - images
    .section .note.GNU-stack, "", %progbits
