"""Tables and figures about labels, images and runs: what a store holds, what a noise does, what a net has learnt."""
